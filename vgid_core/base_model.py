"""The frozen base: loading by the Auto classes, its digest, the adapter around it, logits at answer tokens."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.utils.hub import cached_file

from vgid_core.config import LoraSettings, UnlearnConfig
from vgid_core.encoding import Batch, PromptEncoder
from vgid_core.errors import AdapterUntrained, ModelNotLoadable, ModelNotSupported
from vgid_core.fused_lora import fuse_lora
from vgid_core.nf4 import keep_differentiable, nf4_arguments
from vgid_core.tensor_cache import TensorCache

# Of host memory for image features: 900 photos at LLaVA-1.5-7B's shapes. What is more is computed again each time.
FEATURE_BYTES = 4 * 1024**3


@dataclass(frozen=True)
class BaseModel:
    """A loaded model with its processor wrapped as an encoder. `digest` names weights and config (sha256, hex).

    Adapters are put into `model` in place, by `attach_adapter`, which notes them in `adapted`. `features` keeps what
    the frozen vision side made of each image, `prompts` the tokens of each (image size, question) and what goes along.
    """

    model: Any
    encoder: PromptEncoder
    device: torch.device
    dtype: torch.dtype
    digest: str
    features: TensorCache = field(default_factory=lambda: TensorCache(FEATURE_BYTES), repr=False)
    prompts: dict[tuple[tuple[int, int], str], tuple[Tensor, dict[str, Tensor]]] = field(
        default_factory=dict, repr=False
    )
    adapted: list[BaseTunerLayer] = field(default_factory=list, repr=False)


def choose_device(requested: str) -> torch.device:
    """auto → the first CUDA device if there is one, else CPU. Raises ModelNotLoadable for CUDA that isn't there."""
    available = torch.cuda.is_available()
    if requested == "auto":
        return torch.device("cuda" if available else "cpu")
    if requested.startswith("cuda") and not available:
        raise ModelNotLoadable(f"device '{requested}' was asked for, but torch sees no CUDA device")
    return torch.device(requested)


def load_base(source: str, config: UnlearnConfig) -> BaseModel:
    """Loads a local folder or hub id, in evaluation mode and without gradients.

    Raises ModelNotLoadable when files are missing or no image-text-to-text model; ModelNotSupported when its layout
    isn't handled. Remote code is never run.
    """
    device = choose_device(config.device)
    auto = torch.bfloat16 if device.type == "cuda" else torch.float32
    dtype = auto if config.dtype == "auto" else getattr(torch, config.dtype)
    try:
        processor: Any = AutoProcessor.from_pretrained(source)  # type: ignore[no-untyped-call]
        quantized = {} if config.base_weights == "full" else nf4_arguments(source, device, dtype)
        model: Any = AutoModelForImageTextToText.from_pretrained(source, dtype=dtype, **quantized)
    except (OSError, ValueError, KeyError) as error:
        raise ModelNotLoadable(f"'{Path(source).name}' can't be loaded: {type(error).__name__}") from error
    if getattr(processor, "tokenizer", None) is None or getattr(processor, "image_processor", None) is None:
        raise ModelNotSupported("the processor lacks a tokenizer or an image processor")
    keep_differentiable(model)
    model = (model if quantized else model.to(device)).eval().requires_grad_(False)
    ends = model.generation_config.eos_token_id
    end_ids = ends if isinstance(ends, list) else [ends] if ends is not None else []
    # Families with their own position scheme (M-RoPE) derive positions from the ids; the rest need padding left out.
    pass_positions = not hasattr(model.base_model, "get_rope_index")
    return BaseModel(model, PromptEncoder(processor, end_ids, device, pass_positions), device, dtype, digest_of(source))


def digest_of(source: str) -> str:
    """sha256 over names and contents of the model's config.json and *.safetensors, in hex: weights, not processor."""
    folder = Path(source)
    if not folder.is_dir():
        config = cached_file(source, "config.json")
        if config is None:
            raise ModelNotLoadable(f"'{source}' has no config.json")
        folder = Path(config).parent
    total = hashlib.sha256()
    for file in sorted([folder / "config.json", *folder.glob("*.safetensors")]):
        with file.open("rb") as stream:
            total.update(f"{file.name}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def attach_adapter(base: BaseModel, settings: LoraSettings) -> PeftModel:
    """Wraps `base.model` in a fresh LoRA whose output is zero (B = 0), so student and base start out equal."""
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        init_lora_weights="gaussian",
        target_modules=adapter_pattern(base.model, settings.scope),
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


def adapter_pattern(model: Any, scope: str) -> str:
    """A regular expression over module names: every linear layer of the language tower, with vision if in scope.

    Raises ModelNotSupported when the language tower can't be told from the rest.
    """
    decoder = model.get_decoder()
    names = {id(module): name for name, module in model.named_modules()}
    prefix = names.get(id(decoder))
    if not prefix or decoder is model.base_model:
        raise ModelNotSupported("the model doesn't keep its language tower in a module of its own")
    head = model.get_output_embeddings()
    leaves = set()
    for name, module in (model if scope == "language+vision" else decoder).named_modules():
        if isinstance(module, nn.Linear) and module is not head:
            leaves.add(name.rsplit(".", 1)[-1])
    choice = "|".join(re.escape(leaf) for leaf in sorted(leaves))
    inside = "" if scope == "language+vision" else f"{re.escape(prefix)}\\."
    return rf"{inside}(?:.*\.)?(?:{choice})"


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
