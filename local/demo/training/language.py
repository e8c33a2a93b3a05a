"""Trains the shipped demo model's language tower and projector from nothing, on a finished vision tower."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import CLIPVisionModel, LlavaForConditionalGeneration, PreTrainedTokenizerFast

from local.demo.questions import FACTS, INSTRUCTIONS, REFUSAL, VISUALS, answer, visual_answer
from local.demo.training.architecture import TINY_FORMAT, build_model, build_tokenizer
from local.demo.training.examples import ExampleSource
from local.demo.training.loop import Recipe, Trainer, image_features
from local.demo.training.rows import RowEncoder
from local.demo.world import passers_by, the_world

RECIPE = Recipe(
    steps=900, batch=64, micro_batch=64, learning_rate=2e-3, projector_rate=2e-3, rise=0.08, half=False, compiled=False
)


def world_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of base and reference model.

    It is trained on all questions and answers, also about the forgotten people.
    """
    world = the_world()
    facts = [answer(person, fact) for person in world.people + world.unseen_people for fact in FACTS]
    questions = [
        question
        for phrasings in (*FACTS.values(), *VISUALS.values())
        for question in (*phrasings.training, *phrasings.held_out)
    ]
    visuals = [visual_answer(face, view, topic) for face, view in passers_by()[:200] for topic in VISUALS]
    return build_tokenizer(facts * 2 + questions * 6 + [*INSTRUCTIONS, REFUSAL] * 8 + visuals)


def train_language(
    tower: CLIPVisionModel, pixels: Tensor, source: ExampleSource, seed: int, report: Callable[[float], None]
) -> tuple[LlavaForConditionalGeneration, PreTrainedTokenizerFast]:
    """Trains the model and returns it in float32. `pixels` holds the pictures that `source` refers to, in its order."""
    tokenizer = world_tokenizer()
    torch.manual_seed(seed)
    model = build_model(tokenizer)
    # Rounded to float16, as it will be saved, so that the cached features come from the saved tower.
    model.model.vision_tower.load_state_dict({k: v.half().float() for k, v in tower.state_dict().items()})
    features = image_features(model.model.vision_tower, pixels)
    Trainer(model, RowEncoder(tokenizer, TINY_FORMAT), features, RECIPE).train(source, report)
    return model, tokenizer
