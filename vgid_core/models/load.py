"""Loads a base model by transformers' Auto classes, computes its digest, and notices files that change."""

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
    """A base in host memory, read ahead of its run.

    digest: sha256 of the bytes that were read. file_stats: of the source's files at that time. A run moves the model to
    its device and adapts it in place, so it serves one run: `take` leaves `model` None.
    """

    source: str
    dtype: torch.dtype
    weights: str
    model: Any = field(repr=False)
    processor: Any = field(repr=False)
    digest: str
    file_stats: object = field(repr=False)

    def matches(self, source: str, config: UnlearnConfig) -> bool:
        """Whether it still holds what `read_base` would read now: same source, precision and unchanged files."""
        if self.model is None:
            return False
        wanted = (source, choose_dtype(config), config.base_weights)
        return wanted == (self.source, self.dtype, self.weights) and self.file_stats == _stat_files(source)

    def take(self) -> Any:
        """Hands over the model and drops the reference to it."""
        model, self.model = self.model, None
        return model


def choose_device(requested: str) -> torch.device:
    """Resolves a device setting. auto: the process's CUDA device if CUDA is available, else the CPU.

    Raises ModelNotLoadable for CUDA that isn't available, and for cuda:N with several processes.
    """
    available = torch.cuda.is_available()
    if requested.startswith("cuda") and not available:
        raise ModelNotLoadable(f"device '{requested}' was asked for, but torch sees no CUDA device")
    if requested.startswith("cuda:") and distributed.world_size() > 1:
        raise ModelNotLoadable("several processes can't share one CUDA device: device must be auto or cpu")
    if requested in ("auto", "cuda"):
        return distributed.local_cuda_device() if available else torch.device("cpu")
    return torch.device(requested)


def choose_dtype(config: UnlearnConfig) -> torch.dtype:
    """Resolves the precision. auto: bfloat16 on CUDA, else float32. Raises ModelNotLoadable as `choose_device` does."""
    device = choose_device(config.device)
    auto = torch.bfloat16 if device.type == "cuda" else torch.float32
    dtype: torch.dtype = auto if config.dtype == "auto" else getattr(torch, config.dtype)
    return dtype


def read_base(source: str, config: UnlearnConfig) -> HostModel:
    """Reads a local folder or hub id into host memory, in evaluation mode, parameters frozen.

    Raises ModelNotSupported before any weights are read, and ModelNotLoadable if files are missing or damaged, or
    change meanwhile. Never runs remote code.
    """
    dtype = choose_dtype(config)
    try:
        file_stats = _stat_files(source)
        processor = supported_encoder(source, config.lora.scope).processor
        digest = digest_of(source)
        quantized = nf4_arguments(source, dtype) if config.base_weights == "nf4" else {}
        # The digest covers safetensors alone, so nothing else may be read.
        model: Any = AutoModelForImageTextToText.from_pretrained(source, dtype=dtype, use_safetensors=True, **quantized)
        keep_differentiable(model)
        model.eval().requires_grad_(False)
        read = HostModel(source, dtype, config.base_weights, model, processor, digest, file_stats)
    except (OSError, ValueError, KeyError) as error:
        raise not_loadable(source, error) from error
    if not read.matches(source, config):
        raise ModelNotLoadable(f"'{name_of(source)}' changed while it was read")
    return read


def load_base(source: str, config: UnlearnConfig, read: HostModel | None = None) -> BaseModel:
    """Puts the base on its device. Uses `read` if it still matches the source, else reads the base again.

    Raises ModelNotLoadable and ModelNotSupported as `read_base` does.
    """
    if read is not None and not read.matches(source, config):
        log.warning("the base that was read before is in use or another one by now: reading it anew")
        read = None
    host = read or read_base(source, config)
    device = choose_device(config.device)
    if config.shard_base:
        if distributed.world_size() == 1:
            raise ModelNotLoadable("shard_base needs several processes: accelerate launch --num_processes ...")
        distributed.shard_layers(host.model.get_decoder().layers, device)
    model = host.take().to(device)
    encoder = PromptEncoder(host.processor, model, device, host.dtype)
    return BaseModel(
        model, encoder, device, host.dtype, host.digest, file_stats=host.file_stats, sharded=config.shard_base
    )


def require_unchanged(base: BaseModel, source: str) -> None:
    """Raises ModelNotLoadable if the files that `base` was read from have changed.

    Weights can be memory-mapped, so a write to a file changes the model in use.
    """
    if base.file_stats != _stat_files(source):
        raise ModelNotLoadable(f"'{name_of(source)}' changed during the run")


def _stat_files(source: str) -> object:
    """Inode, size and modification time of the model's files: equal while they stay unchanged.

    Raises OSError if there is no such model.
    """
    folder = Path(source)
    if not folder.is_dir():
        return str(cached_file(source, "config.json"))  # each snapshot of the hub has a folder that never changes
    # Subfolders don't count: a run may write its checkpoints into one.
    found = {file.name: file.stat() for file in folder.iterdir() if file.is_file()}
    return {name: (stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in found.items()}


def digest_of(source: str) -> str:
    """sha256, in hex, over names and contents of config.json and *.safetensors; the processor doesn't count.

    Downloads them first if the source is a hub id. Raises OSError or ModelNotLoadable if there is no such model, and
    ModelNotLoadable for pickled weights, which could run code.
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
    """The config and the weight files of a hub model that `from_pretrained` would take.

    Not all files in the cache: their set differs before and after the first load, and so would the digest.
    """
    config = cached_file(source, "config.json")
    if config is None:
        raise ModelNotLoadable(f"'{source}' has no config.json")
    # All files from the config's snapshot, even if the hub gets a newer one meanwhile. A missing file is None.
    snapshot = {"revision": Path(config).parent.name, "_raise_exceptions_for_missing_entries": False}
    weights = cached_file(source, SAFE_WEIGHTS_NAME, **snapshot)
    files = [config] if weights is None else [config, weights]
    index = cached_file(source, SAFE_WEIGHTS_INDEX_NAME, **snapshot) if weights is None else None
    if index is not None:
        shards, _ = get_checkpoint_shard_files(source, index, revision=snapshot["revision"])  # type: ignore[no-untyped-call]
        files += shards
    return [Path(file) for file in files]
