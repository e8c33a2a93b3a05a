"""Loads finished adapters with plain PEFT, and checks them against the base that their manifest names."""

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

ADAPTER_WEIGHTS = "adapter_model.safetensors"
MANIFEST = "manifest.json"  # that of an adapter which forgets
ADAPTER_FILES = ("adapter_config.json", ADAPTER_WEIGHTS)


def load_adapter(base: BaseModel, folder: Path) -> LoraSettings:
    """Loads the adapter in `folder` onto `base` in place; returns its scope, which `choose_scorer` needs.

    `adapter_off` switches it off. Raises ModelNotLoadable if files are missing, damaged, or don't fit the model.
    """
    missing = [name for name in ADAPTER_FILES if not (folder / name).is_file()]
    if missing:
        raise ModelNotLoadable(f"'{folder.name}' is no adapter: it holds no {missing[0]}")
    try:
        with warnings.catch_warnings():
            # PEFT only warns of missing weights and leaves B zero: the adapter would do nothing.
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


def is_for_other_base(base: BaseModel, folder: Path) -> bool:
    """Whether the adapter's manifest names another base's digest; False without a manifest.

    Raises ModelNotLoadable for a manifest that can't be read.
    """
    try:
        manifest = parse_json((folder / MANIFEST).read_text(encoding="utf-8"))
        return bool(manifest["base_model"]["digest"] != base.digest)
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelNotLoadable(f"'{folder.name}' has a manifest that can't be read") from error
