"""Whom benches make the demo model forget, and reference models for these people; what is missing is made once.

Three reference models a set, each of another seed: what attacks find in one differs from what they find in the next by
as much as a bar is wide. Some four minutes each on one core; they are kept in .vgid/bench-reference-models.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from local.demo.paths import REFERENCE_MODEL
from local.demo.training.architecture import build_processor, save
from local.demo.training.build import SEED
from local.demo.training.examples import ExampleSource, training_pixels
from local.demo.training.language import train_language
from local.demo.training.shipped_tower import shipped_vision_tower
from local.demo.world import FORGOTTEN, SIXTY, the_world

REFERENCE_MODELS = 3
# Scattered, and no setting was chosen by any of them: settings were chosen on people 0 to 5, 3, 19, 51 and 12, 31, 46.
FORGET_SETS = ((7, 16, 25, 34, 43, 52), (9, 18, 27, 38, 47, 56), (11, 20, 29, 40, 49, 58))
# Known people whom no set holds: neither forgotten nor retained.
NEIGHBOURS = SIXTY.neighbours
# Forgotten together, beside the same neighbours.
FIFTEEN = (0, 2, 5, 10, 13, 19, 22, 28, 31, 37, 41, 46, 50, 55, 59)
FOLDER = Path(__file__).parents[2] / ".vgid" / "bench-reference-models"


def reference_models_of(forgotten: Sequence[int]) -> list[Path]:
    """The checkpoints of the reference models that never met these people, made now where they aren't there."""
    return [_reference_model_of(forgotten, SEED + number) for number in range(REFERENCE_MODELS)]


def reference_models_there(forgotten: Sequence[int]) -> list[Path]:
    """Those of them that are there already."""
    return [folder for number in range(REFERENCE_MODELS) if (folder := _place_of(forgotten, SEED + number)).is_dir()]


def _place_of(forgotten: Sequence[int], seed: int) -> Path:
    if tuple(forgotten) == FORGOTTEN and seed == SEED:
        return REFERENCE_MODEL
    return FOLDER / f"without_{'_'.join(map(str, forgotten))}_seed_{seed}"


def _reference_model_of(forgotten: Sequence[int], seed: int) -> Path:
    folder = _place_of(forgotten, seed)
    if not folder.is_dir():
        FOLDER.mkdir(parents=True, exist_ok=True)
        started, told = time.monotonic(), [0.0]

        def tell(share: float) -> None:
            if share - told[0] >= 0.1:
                told[0] = share
                seconds = time.monotonic() - started
                print(
                    f"  reference model without people {forgotten}, seed {seed}: {share:.0%}, {seconds:.0f} s",
                    flush=True,
                )

        _build_reference_model(forgotten, folder, tell, seed)
    return folder


def _build_reference_model(never_met: Sequence[int], folder: Path, report: Callable[[float], None], seed: int) -> None:
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
