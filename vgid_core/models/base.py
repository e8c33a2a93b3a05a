"""The loaded base model: weights, encoder, caches, and the model's own forward at answer tokens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from vgid_core.models.encoding import Batch, PromptEncoder
from vgid_core.models.tensor_cache import TensorCache

# Host memory for image features: 900 photos at LLaVA-1.5-7B's shapes. Others' are recomputed each time.
FEATURE_BYTES = 4 * 1024**3


class Prompt(NamedTuple):
    """A tokenized prompt.

    ids: [length], on the host. extras: other inputs that positions depend on (M-RoPE). image_end: the index after the
    last image token.
    """

    ids: Tensor
    extras: dict[str, Tensor]
    image_end: int


@dataclass(frozen=True)
class BaseModel:
    """A loaded model and its encoder, with what a run caches about them.

    digest: sha256 of weights and config, in hex. features: the frozen vision tower's output by image digest. prompts:
    tokens by (image size, question). adapted: the adapter's layers, which `attach_adapter` inserts into `model` in
    place. file_stats: of the model's files when they were read. sharded: this process holds a shard of each decoder
    layer (FSDP).
    """

    model: Any
    encoder: PromptEncoder
    device: torch.device
    dtype: torch.dtype
    digest: str
    features: TensorCache = field(default_factory=lambda: TensorCache(FEATURE_BYTES), repr=False)
    prompts: dict[tuple[tuple[int, int], str], Prompt] = field(default_factory=dict, repr=False)
    adapted: list[BaseTunerLayer] = field(default_factory=list, repr=False)
    file_stats: object = field(default=None, repr=False)
    sharded: bool = False


@contextmanager
def adapter_off(base: BaseModel) -> Iterator[None]:
    """Switches the adapter off within the context, so that the model gives the base's output from the same weights.

    PEFT's own context manager walks the whole model and every parameter each time.
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
    """Collects, within the context, the states after this decoder layer (0-based): [rows, length, hidden] a pass."""
    outputs: list[Tensor] = []

    def collect(_module: nn.Module, _inputs: Any, output: Any) -> None:
        outputs.append(output[0] if isinstance(output, tuple) else output)

    handle = base.model.get_decoder().layers[layer].register_forward_hook(collect)
    try:
        yield outputs
    finally:
        handle.remove()


@contextmanager
def head_inputs(base: BaseModel) -> Iterator[list[Tensor]]:
    """Collects, within the context, the states that the output matrix turns into logits: one tensor a pass."""
    inputs: list[Tensor] = []
    handle = base.model.get_output_embeddings().register_forward_pre_hook(
        lambda _module, given: inputs.append(given[0])
    )
    try:
        yield inputs
    finally:
        handle.remove()


def answer_logits(base: BaseModel, batch: Batch) -> Tensor:
    """Logits that predict the answer tokens, by the model's own forward: [batch, answer, vocabulary]."""
    length = batch.answer_ids.shape[1]
    logits: Tensor = base.model(**batch.inputs, logits_to_keep=length + 1, use_cache=False).logits
    return logits[:, :-1]
