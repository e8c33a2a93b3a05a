"""How one model at hand would be worked on: whether, by which scorer, what it is shown (docs/reference/models.md)."""

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

# Of the spread of the logits. Wrong token types, masks or positions give tenths and more.
_ROUNDING = {torch.float32: 1e-3, torch.bfloat16: 0.15}
_TOKENS = 4
_SIZES = [(336, 336), (640, 480), (300, 600)]
_QUESTIONS = ["Who is this?", "What is the person in this image wearing today?"]


@dataclass(frozen=True)
class ModelReport:
    """What `check_model` found.

    scorer: packed or plain (see `scoring.choose`), on photos of three sizes. deviation: of logits by teacher forcing
    from those that the model generates by, relative to their spread. adapted: how many linear layers an adapter covers.
    prompt: a question as the model gets it.
    """

    scorer: str
    deviation: float
    adapted: int
    prompt: str


def check_model(source: str, config: UnlearnConfig | None = None) -> ModelReport:
    """Loads a local folder or hub id and tries it on generated pictures; a run would go by the same scorer.

    Raises ModelNotSupported before any weights are read, or when the model generates by other logits than those that
    would be trained; ModelNotLoadable as `read_base` does.
    """
    config = config or UnlearnConfig()
    base = load_base(source, config)
    pairs = [
        Pair(EncodedImage.of(Image.effect_noise(size, 64).convert("RGB")), question, "Ada Quill.")
        for size in _SIZES
        for question in _QUESTIONS
    ]
    deviation = generation_deviation(base, pairs)
    if deviation > _ROUNDING[base.dtype]:
        raise ModelNotSupported(f"teacher forcing deviates from the model's own generation by {deviation:.1e}")
    student = attach_adapter(base, config.lora)
    adapted = sum(isinstance(module, BaseTunerLayer) for module in student.modules())
    scorer = choose_scorer(base, pairs, config.lora)
    return ModelReport(scorer.name, deviation, adapted, base.encoder.prompt(_QUESTIONS[0]))


@torch.no_grad()
def generation_deviation(base: BaseModel, pairs: Sequence[Pair]) -> float:
    """How far teacher-forced logits are from those that the model generates by, at the token where it is farthest.

    The model says a few tokens to each pair; the same tokens are then given as answers, in padded rows. Root mean
    square over the vocabulary, relative to the spread of the model's own logits.
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
        suppress_tokens=None if image is None else [image],  # said, it would ask for an image that isn't there
        return_dict_in_generate=True,
    )
    said = generated.sequences[:, inputs["input_ids"].shape[1] :].tolist()
    own = torch.stack(generated.logits, dim=1).float()
    forced = answer_logits(base, base.encoder.batch(images, questions, said)).float()
    return float((forced - own).square().mean(-1).sqrt().max() / own.std())
