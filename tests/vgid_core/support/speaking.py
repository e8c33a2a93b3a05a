"""The tiny model, taught to say something about photos: with random weights it says no text."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from vgid_core import UnlearnConfig
from vgid_core.data.pairs import Pair, PairSet
from vgid_core.models.base import BaseModel
from vgid_core.models.load import load_base
from vgid_core.scoring.packed.scorer import PackedScorer
from vgid_core.scoring.padded import generate

VISIBLE = ["How many buttons are there?", "How many rings?"]
SAYINGS = ("7.", "12.", "900.")


def teach_to_speak(base: BaseModel, seen: PairSet, sayings: Sequence[str] = SAYINGS) -> None:
    """Teaches what is to be seen on the photos of `seen`, by heart: one of the sayings to each of VISIBLE."""
    taught = taught_of(seen, sayings)
    learn_by_heart(base, taught, steps=60)
    assert said(base, taught) == [pair.answer for pair in taught]


def learn_by_heart(base: BaseModel, pairs: Sequence[Pair], steps: int) -> None:
    """Trains the decoder on these answers alone."""
    weights = list(base.model.get_decoder().parameters())
    optimizer = torch.optim.AdamW(weights, lr=1e-2)
    for weight in weights:
        weight.requires_grad_(True)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.autograd.backward(-PackedScorer(base).student_log_probability(pairs).mean())
        optimizer.step()
    for weight in weights:
        weight.requires_grad_(False)


def taught_of(seen: PairSet, sayings: Sequence[str]) -> list[Pair]:
    """What is taught of these photos."""
    photos = list(dict.fromkeys(pair.image for pair in seen))
    return [
        Pair(photo, question, sayings[(place + turn) % len(sayings)])
        for place, photo in enumerate(photos)
        for turn, question in enumerate(VISIBLE)
    ]


def save_speaking_model(silent: Path, seen: PairSet, folder: Path) -> Path:
    """The model of the folder `silent`, taught to speak of `seen`, with its processor under `folder`."""
    base = load_base(str(silent), UnlearnConfig(device="cpu"))
    teach_to_speak(base, seen)
    shutil.copytree(silent, folder)
    base.model.save_pretrained(folder)
    return folder


def said(base: BaseModel, pairs: Sequence[Pair]) -> list[str]:
    """What the model says to each pair's question."""
    return base.encoder.decode(generate(base, pairs, 64))
