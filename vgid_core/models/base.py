"""The loaded base: its weights, its encoder, and logits at answer tokens by its own forward."""

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
