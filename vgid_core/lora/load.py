"""Finished adapters: read back with plain PEFT, and held against the base that their manifest names."""

from __future__ import annotations

import warnings
from pathlib import Path

from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError

from vgid_core.config import LoraSettings
from vgid_core.data.json_text import parse_json
from vgid_core.errors import ModelNotLoadable
from vgid_core.models.base import BaseModel

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


def put_on(base: BaseModel, folder: Path) -> LoraSettings:
    """Loads the adapter in `folder` onto `base`, in place, and says what `paths.choose_scorer` needs to know of it.

    `base_model.adapter_off` switches it off again. Raises ModelNotLoadable when files are missing or don't fit.
    """
    missing = [name for name in ADAPTER_FILES if not (folder / name).is_file()]
    if missing:
        raise ModelNotLoadable(f"'{folder.name}' is no adapter: it holds no {missing[0]}")
    try:
        with warnings.catch_warnings():
            # PEFT would go on with matrices that change nothing.
            warnings.filterwarnings("error", message="Found missing adapter keys")
            student = PeftModel.from_pretrained(base.model, str(folder), autocast_adapter_dtype=False).eval()
    except SafetensorError as error:
        raise ModelNotLoadable(f"'{folder.name}' is damaged: its adapter_model.safetensors can't be read") from error
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, UserWarning) as error:
        raise ModelNotLoadable(f"'{folder.name}' doesn't fit the model: {type(error).__name__}") from error
    base.adapted[:] = [module for module in student.modules() if isinstance(module, BaseTunerLayer)]
    language = {id(module) for module in base.model.get_decoder().modules()}
    outside = any(id(layer) not in language for layer in base.adapted)
    return LoraSettings(scope="language+vision" if outside else "language")


def made_for_another(base: BaseModel, folder: Path) -> bool:
    """Whether the adapter's manifest names another base than this one; false where there is no manifest.

    Raises ModelNotLoadable when there is one that can't be read.
    """
    try:
        manifest = parse_json((folder / "manifest.json").read_text(encoding="utf-8"))
        return bool(manifest["base_model"]["digest"] != base.digest)
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelNotLoadable(f"'{folder.name}' has a manifest that can't be read") from error
