"""Reading a base by the Auto classes, its digest, and whether its files are still what was read."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME
from transformers.utils.hub import cached_file, get_checkpoint_shard_files

from vgid_core.config import UnlearnConfig
from vgid_core.errors import ModelNotLoadable
from vgid_core.models import distributed
from vgid_core.models.base import BaseModel
from vgid_core.models.encoding import PromptEncoder
from vgid_core.models.four_bit import keep_differentiable, nf4_arguments
from vgid_core.models.load_errors import not_loadable
from vgid_core.models.name import name_of
from vgid_core.models.support import supported_encoder

log = logging.getLogger(__name__)


@dataclass(eq=False)
class HostModel:
    """A base read into host memory, on no accelerator yet. `digest` names the bytes that were read.

    `version` is what the source's files looked like meanwhile. A run moves the model to its device and adapts it in
    place, so it serves one run, which takes it out of here: `model` is None from then on.
    """

    source: str
    dtype: torch.dtype
    weights: str
    model: Any = field(repr=False)
    processor: Any = field(repr=False)
    digest: str
    version: object = field(repr=False)

    def fits(self, source: str, config: UnlearnConfig) -> bool:
        """Whether it is here and reading `source` now would give the same: source and precision, files unchanged."""
        if self.model is None:
            return False
        asked = (source, choose_dtype(config), config.base_weights)
        return asked == (self.source, self.dtype, self.weights) and self.version == _version_of(source)

    def take(self) -> Any:
        """The model, which whoever else holds this lets go of."""
        model, self.model = self.model, None
        return model


def choose_device(requested: str) -> torch.device:
    """auto → the first CUDA device if there is one, else CPU; of several processes each has a CUDA device of its own.

    Raises ModelNotLoadable for CUDA that isn't there.
    """
    available = torch.cuda.is_available()
    if requested.startswith("cuda") and not available:
        raise ModelNotLoadable(f"device '{requested}' was asked for, but torch sees no CUDA device")
    if requested.startswith("cuda:") and distributed.count() > 1:
        raise ModelNotLoadable("several processes can't share one CUDA device: device must be auto or cpu")
    if requested in ("auto", "cuda"):
        return distributed.accelerator() if available else torch.device("cpu")
    return torch.device(requested)


def choose_dtype(config: UnlearnConfig) -> torch.dtype:
    """The precision asked for; auto → bfloat16 on an accelerator, else float32. Raises ModelNotLoadable."""
    device = choose_device(config.device)
    auto = torch.bfloat16 if device.type == "cuda" else torch.float32
    asked: torch.dtype = auto if config.dtype == "auto" else getattr(torch, config.dtype)
    return asked


def read_base(source: str, config: UnlearnConfig) -> HostModel:
    """Reads a local folder or hub id into host memory, in evaluation mode and without gradients.

    Raises ModelNotSupported before any weights are read, and ModelNotLoadable when files are missing, are damaged or
    change meanwhile. Remote code is never run.
    """
    dtype = choose_dtype(config)
    try:
        version = _version_of(source)
        processor = supported_encoder(source, config.lora.scope).processor
        digest = digest_of(source)
        quantized = nf4_arguments(source, dtype) if config.base_weights == "nf4" else {}
        # What the digest names is what is read.
        model: Any = AutoModelForImageTextToText.from_pretrained(source, dtype=dtype, use_safetensors=True, **quantized)
        keep_differentiable(model)
        model.eval().requires_grad_(False)
        read = HostModel(source, dtype, config.base_weights, model, processor, digest, version)
    except (OSError, ValueError, KeyError) as error:
        raise not_loadable(source, error) from error
    if not read.fits(source, config):
        raise ModelNotLoadable(f"'{name_of(source)}' changed while it was read")
    return read


def load_base(source: str, config: UnlearnConfig, read: HostModel | None = None) -> BaseModel:
    """The base on its device: `read`, if that is still what the source holds, else read anew (see `read_base`).

    Raises ModelNotLoadable and ModelNotSupported as it does.
    """
    if read is not None and not read.fits(source, config):
        log.warning("the base that was read before is in use or another one by now: reading it anew")
        read = None
    host = read or read_base(source, config)
    device = choose_device(config.device)
    if config.shard_base:
        if distributed.count() == 1:
            raise ModelNotLoadable("shard_base needs several processes: accelerate launch --num_processes ...")
        distributed.shard(host.model.get_decoder().layers, device)
    model = host.take().to(device)
    encoder = PromptEncoder(host.processor, model, device, host.dtype)
    return BaseModel(model, encoder, device, host.dtype, host.digest, version=host.version, sharded=config.shard_base)


def require_unchanged(base: BaseModel, source: str) -> None:
    """Raises ModelNotLoadable if the files that `base` was read from are others by now.

    Weights can be mapped from their files: whoever writes into those changes the model that runs.
    """
    if base.version != _version_of(source):
        raise ModelNotLoadable(f"'{name_of(source)}' changed during the run")


def _version_of(source: str) -> object:
    """Equal for as long as the files stay as they are. Raises OSError when there is no such model."""
    folder = Path(source)
    if not folder.is_dir():
        return str(cached_file(source, "config.json"))  # a hub's snapshot has a folder of its own, never changed
    # Folders inside aren't read: a run may well write its checkpoints into one.
    found = {file.name: file.stat() for file in folder.iterdir() if file.is_file()}
    return {name: (stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in found.items()}


def digest_of(source: str) -> str:
    """sha256 over names and contents of the model's config.json and *.safetensors, in hex: weights, not processor.

    What a hub's cache lacks of them is fetched first. Raises OSError or ModelNotLoadable when there is no such model,
    and ModelNotLoadable where its weights are pickles, which nobody should have to trust.
    """
    folder = Path(source)
    files = [folder / "config.json", *folder.glob("*.safetensors")] if folder.is_dir() else _hub_files(source)
    if len(files) == 1:
        raise ModelNotLoadable(f"'{name_of(source)}' has no weights in *.safetensors")
    total = hashlib.sha256()
    for file in sorted(files):
        with file.open("rb") as stream:
            total.update(f"{file.name}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def _hub_files(source: str) -> list[Path]:
    """Configuration and weights of a hub's model as `from_pretrained` takes them, whatever else the cache holds.

    A digest of what happens to be cached would be another one before the first load than after it.
    """
    config = cached_file(source, "config.json")
    if config is None:
        raise ModelNotLoadable(f"'{source}' has no config.json")
    # All of one snapshot, though the hub may get a newer one meanwhile; what it lacks is None.
    snapshot = {"revision": Path(config).parent.name, "_raise_exceptions_for_missing_entries": False}
    weights = cached_file(source, SAFE_WEIGHTS_NAME, **snapshot)
    files = [config] if weights is None else [config, weights]
    index = cached_file(source, SAFE_WEIGHTS_INDEX_NAME, **snapshot) if weights is None else None
    if index is not None:
        shards, _ = get_checkpoint_shard_files(source, index, revision=snapshot["revision"])  # type: ignore[no-untyped-call]
        files += shards
    return [Path(file) for file in files]
