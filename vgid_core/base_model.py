"""The frozen base: loading by the Auto classes, its digest, the adapter around it, logits at answer tokens."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME
from transformers.utils.hub import cached_file, get_checkpoint_shard_files

from vgid_core import processes
from vgid_core.config import LoraSettings, UnlearnConfig
from vgid_core.encoding import Batch, PromptEncoder
from vgid_core.errors import AdapterUntrained, ModelNotLoadable
from vgid_core.fused_lora import fuse_lora
from vgid_core.model_name import name_of
from vgid_core.model_support import adapter_pattern, supported_encoder
from vgid_core.nf4 import keep_differentiable, nf4_arguments
from vgid_core.not_loaded import not_loadable
from vgid_core.tensor_cache import TensorCache

log = logging.getLogger(__name__)

# Of host memory for image features: 900 photos at LLaVA-1.5-7B's shapes. What is more is computed again each time.
FEATURE_BYTES = 4 * 1024**3


class Prompt(NamedTuple):
    """A question's prompt: ids [length], what the positions depend on besides, and where its image has ended."""

    ids: Tensor
    extras: dict[str, Tensor]
    image_end: int


@dataclass(frozen=True)
class BaseModel:
    """A loaded model with its processor wrapped as an encoder. `digest` names weights and config (sha256, hex).

    Adapters are put into `model` in place, by `attach_adapter`, which notes them in `adapted`. `features` keeps what
    the frozen vision side made of each image, `prompts` of each (image size, question) the tokens,
    `version` what its files looked like when they were read. `sharded`: of the decoder's layers it holds a share alone.
    """

    model: Any
    encoder: PromptEncoder
    device: torch.device
    dtype: torch.dtype
    digest: str
    features: TensorCache = field(default_factory=lambda: TensorCache(FEATURE_BYTES), repr=False)
    prompts: dict[tuple[tuple[int, int], str], Prompt] = field(default_factory=dict, repr=False)
    adapted: list[BaseTunerLayer] = field(default_factory=list, repr=False)
    version: object = field(default=None, repr=False)
    sharded: bool = False


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
    if requested.startswith("cuda:") and processes.count() > 1:
        raise ModelNotLoadable("several processes can't share one CUDA device: device must be auto or cpu")
    if requested in ("auto", "cuda"):
        return processes.accelerator() if available else torch.device("cpu")
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
        if processes.count() == 1:
            raise ModelNotLoadable("shard_base needs several processes: accelerate launch --num_processes ...")
        processes.shard(host.model.get_decoder().layers, device)
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


def attach_adapter(base: BaseModel, settings: LoraSettings, reach: int | None = None) -> PeftModel:
    """Wraps `base.model` in a fresh LoRA whose output is zero (B = 0), so student and base start out equal.

    `reach`: only the decoder's first so many layers get one.
    """
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        init_lora_weights="gaussian",
        target_modules=adapter_pattern(base.model, settings.scope, reach),
        bias="none",
    )
    student: PeftModel = get_peft_model(base.model, config, autocast_adapter_dtype=False)
    # In the base's own precision: casting activations for float32 matrices of rank 16 costs a third of a step.
    for parameter in student.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(base.dtype)
    fuse_lora(student)
    base.adapted[:] = [module for module in student.modules() if isinstance(module, BaseTunerLayer)]
    return student


@contextmanager
def adapter_off(base: BaseModel) -> Iterator[None]:
    """The base's own output within, whether or not it carries an adapter: the same weights, no second copy.

    PEFT's context does the same, but inspects the whole model and every parameter each time.
    """
    for layer in base.adapted:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer in base.adapted:
            layer._disable_adapters = False


@contextmanager
def layer_outputs(base: BaseModel, layer: int) -> Iterator[list[Tensor]]:
    """Within, every pass through the model adds the states after this decoder layer: [rows, length, hidden]."""
    outputs: list[Tensor] = []

    def hear(_module: nn.Module, _inputs: Any, output: Any) -> None:
        outputs.append(output[0] if isinstance(output, tuple) else output)

    handle = base.model.get_decoder().layers[layer].register_forward_hook(hear)
    try:
        yield outputs
    finally:
        handle.remove()


def answer_logits(base: BaseModel, batch: Batch) -> Tensor:
    """Logits that predict the answer tokens, [batch, answer, vocabulary], by the model's own forward."""
    length = batch.answer_ids.shape[1]
    logits: Tensor = base.model(**batch.inputs, logits_to_keep=length + 1, use_cache=False).logits
    return logits[:, :-1]


def require_trained(student: PeftModel) -> list[str]:
    """Names of the adapted modules. Raises AdapterUntrained if any `lora_B` is still exactly zero.

    Frozen embeddings under gradient checkpointing leave layers untrained without a word (open-unlearning #178).
    """
    trained: list[str] = []
    idle: list[str] = []
    for name, parameter in student.named_parameters():
        if ".lora_B." in name:
            module = name.split(".lora_B.")[0].removeprefix("base_model.model.")
            (trained if parameter.detach().any() else idle).append(module)
    if idle or not trained:
        raise AdapterUntrained(f"{len(idle)} of {len(idle) + len(trained)} adapted modules never moved")
    return trained
