"""Retain-only twins for other people than the demo's six, on the shipped model's own vision tower."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from transformers import AutoModelForImageTextToText, CLIPVisionModel

from local.demo.paths import BASE
from local.demo.training.architecture import build_processor, save, vision_config
from local.demo.training.build import SEED
from local.demo.training.examples import ExampleSource, training_pixels
from local.demo.training.language import train_language
from local.demo.world import the_world


def build_twin(never_met: Sequence[int], folder: Path, tell: Callable[[float], None], seed: int = SEED) -> None:
    """Trains a model as the demo's base was, but without these people, and saves it to `folder`, whole or not at all.

    `tell` hears the share that is done; `seed` is that of weights and examples. Some four minutes on one core.
    """
    people = tuple(number for number in range(len(the_world().people)) if number not in never_met)
    pixels = torch.from_numpy(training_pixels(SEED))
    model, tokenizer = train_language(shipped_tower(), pixels, ExampleSource(people, seed), seed, tell)
    unfinished = folder.with_name(f".{folder.name}.new")
    save(model, build_processor(tokenizer), unfinished)
    unfinished.rename(folder)


def shipped_tower() -> CLIPVisionModel:
    """The vision tower that was trained for the shipped model, on faces of nobody in particular: it suits any world."""
    base = AutoModelForImageTextToText.from_pretrained(str(BASE), dtype=torch.float32)
    tower = CLIPVisionModel(vision_config())
    tower.load_state_dict(base.model.vision_tower.state_dict())
    return tower
