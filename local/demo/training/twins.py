"""Builds retain-only twins of the shipped model, for other people than the demo's six."""

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


def build_twin(never_met: Sequence[int], folder: Path, report: Callable[[float], None], seed: int = SEED) -> None:
    """Trains a model like the demo's base, but without these people, and saves it to `folder`.

    report: called with the share that is done. seed: of the weights and the examples. Takes some four minutes on one
    core. After a crash the folder is whole or absent.
    """
    people = tuple(number for number in range(len(the_world().people)) if number not in never_met)
    pixels = torch.from_numpy(training_pixels(SEED))
    model, tokenizer = train_language(shipped_vision_tower(), pixels, ExampleSource(people, seed), seed, report)
    unfinished = folder.with_name(f".{folder.name}.new")
    save(model, build_processor(tokenizer), unfinished)
    unfinished.rename(folder)


def shipped_vision_tower() -> CLIPVisionModel:
    """The shipped model's vision tower. It was trained on random faces, so it suits any world."""
    base = AutoModelForImageTextToText.from_pretrained(str(BASE), dtype=torch.float32)
    tower = CLIPVisionModel(vision_config())
    tower.load_state_dict(base.model.vision_tower.state_dict())
    return tower
