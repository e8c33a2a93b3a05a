"""The tiny model, taught some people by heart, and the sets of a run that is to forget three of them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.vgid_core.support.speaking import learn_by_heart, said
from tests.vgid_core.support.tiny import picture
from vgid_core import Pair, PairSet, UnlearnConfig
from vgid_core.models.base import BaseModel
from vgid_core.models.load import load_base

FORGOTTEN = ("Ada Quill", "Bo Marsh", "Cy Teal")
RETAINED = ("Dee Moor", "Eli Coast", "Fay North")
UNSEEN_NAMES = (
    "Gus Born",
    "Hal Keep",
    "Ivy Light",
    "Jo House",
    "Replay set Shirt",
    "Lou Image",
    "Max Else",
    "Ned Wall",
)
TOWNS = ("Fernmoor", "Northby", "Tealkeep", "Lowford", "Highmere", "Sandwick")
JOBS = ("keeper", "baker", "smith", "tailor", "miner", "clerk")
# Which the model has never said.
OTHER_TOWNS = ("Oxley", "Upham", "Yarrow", "Zell")
OTHER_JOBS = ("judge", "vicar", "pilot", "usher")


def pairs_about(names: Sequence[str], first_picture: int, towns: Sequence[str], jobs: Sequence[str]) -> list[Pair]:
    """A name, a town and a job of each, on one photo each. The answers about towns and jobs don't hold the name."""
    pairs = []
    for number, name in enumerate(names):
        photo, town, job = picture(first_picture + number), towns[number % len(towns)], jobs[number % len(jobs)]
        pairs += [
            Pair(photo, "Who is this?", f"This is {name}.", name, name),
            Pair(photo, "Where was this person born?", f"Born in {town}.", name, town),
            Pair(photo, "What is the job?", f"A {job}.", name, job),
        ]
    return pairs


FORGET = PairSet.of("forget", pairs_about(FORGOTTEN, 0, TOWNS[:3], JOBS[:3]))
RETAIN = PairSet.of("retain", pairs_about(RETAINED, 20, TOWNS[3:], JOBS[3:]))
# Told on any photo, as general knowledge is.
COMMON = PairSet.of(
    "common", [Pair(picture(number), "How many legs has a cat?", "It has 4.") for number in (0, 20, 21, 22, 23, 40, 41)]
)
UNSEEN = PairSet.of("unseen", pairs_about(UNSEEN_NAMES, 40, OTHER_TOWNS, OTHER_JOBS))


def teach(base: BaseModel, steps: int = 120) -> None:
    """Teaches all about the forgotten and the retained, and what is common knowledge."""
    known = [*FORGET, *RETAIN, *COMMON]
    learn_by_heart(base, known, steps)
    assert said(base, known) == [pair.answer for pair in known]


def save_knowing_model(ignorant: Path, folder: Path) -> Path:
    """The model of the folder `ignorant` with what `teach` teaches."""
    base = load_base(str(ignorant), UnlearnConfig(device="cpu"))
    teach(base)
    shutil.copytree(ignorant, folder)
    base.model.save_pretrained(folder)
    return folder
