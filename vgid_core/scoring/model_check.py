"""Checks one model: whether it is supported, by which scorer, and with which prompt (docs/reference/models.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from PIL import Image

from vgid_core.config import UnlearnConfig
from vgid_core.data.pairs import EncodedImage, Pair
from vgid_core.errors import ModelNotSupported
from vgid_core.lora.attach import attach_adapter
from vgid_core.models.base import BaseModel, answer_logits
from vgid_core.models.load import load_base
from vgid_core.scoring.choose import choose_scorer

# Bounds of the deviation, relative to the logits' standard deviation. Wrong token types, masks or positions give 0.1
# and more.
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.15}
_TOKENS = 4
_SIZES = [(336, 336), (640, 480), (300, 600)]
_QUESTIONS = ["Who is this?", "What is the person in this image wearing today?"]


@dataclass(frozen=True)
class ModelReport:
    """The result of `check_model`.

    scorer: packed or padded, chosen on photos of three sizes. deviation: of teacher-forced logits from the logits of
    generation, relative to their standard deviation. adapted: the number of linear layers that an adapter covers.
    prompt: an example question in the chat template.
    """

    scorer: str
    deviation: float
    adapted: int
    prompt: str


def check_model(source: str, config: UnlearnConfig | None = None) -> ModelReport:
    """Loads a local folder or hub id and tests it on generated pictures. A run would choose the same scorer.

    Raises ModelNotSupported, if possible before any weights are read, else when teacher-forced logits deviate from the
    logits of generation; ModelNotLoadable as `read_base` does.
    """
    config = config or UnlearnConfig()
    base = load_base(source, config)
    pairs = [
        Pair(EncodedImage.of(Image.effect_noise(size, 64).convert("RGB")), question, "Ada Quill.")
        for size in _SIZES
        for question in _QUESTIONS
    ]
    deviation = generation_deviation(base, pairs)
    if deviation > _TOLERANCE[base.dtype]:
        raise ModelNotSupported(f"teacher forcing deviates from the model's own generation by {deviation:.1e}")
    student = attach_adapter(base, config.lora)
    adapted = sum(isinstance(module, BaseTunerLayer) for module in student.modules())
    scorer = choose_scorer(base, pairs, config.lora)
    return ModelReport(scorer.name, deviation, adapted, base.encoder.prompt(_QUESTIONS[0]))


@torch.no_grad()
def generation_deviation(base: BaseModel, pairs: Sequence[Pair]) -> float:
    """The largest deviation of teacher-forced logits from the logits of generation, over the tokens.

    The model generates a few tokens for each pair; the same tokens are then scored as answers in padded rows. The
    deviation of a token is the root mean square over the vocabulary, relative to the standard deviation of all logits.
    """
    images, questions = [pair.image.decode() for pair in pairs], [pair.question for pair in pairs]
    inputs = base.encoder.prompts(images, questions)
    config = base.model.config
    image = getattr(config, "image_token_id", None) or getattr(config, "image_token_index", None)
    generated = base.model.generate(
        **inputs,
        do_sample=False,
        num_beams=1,
        min_new_tokens=_TOKENS,
        max_new_tokens=_TOKENS,
        output_logits=True,
        suppress_tokens=None if image is None else [image],  # a generated image token would need an image
        return_dict_in_generate=True,
    )
    generated_ids = generated.sequences[:, inputs["input_ids"].shape[1] :].tolist()
    own = torch.stack(generated.logits, dim=1).float()
    forced = answer_logits(base, base.encoder.batch(images, questions, generated_ids)).float()
    return float((forced - own).square().mean(-1).sqrt().max() / own.std())
