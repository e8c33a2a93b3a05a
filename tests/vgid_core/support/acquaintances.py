"""The tiny model, taught by heart whom it knows: what audits need somebody to be known for."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from tests.vgid_core.support.speaking import learn_by_heart, said
from tests.vgid_core.support.tiny import picture
from vgid_core import Pair, PairSet, UnlearnConfig
from vgid_core.data.roles import AuditSets
from vgid_core.evaluation.audits.context import AuditContext, AuditSizes
from vgid_core.evaluation.evaluate import SetAnswers
from vgid_core.evaluation.figures import Figure
from vgid_core.models.base import BaseModel
from vgid_core.models.load import load_base
from vgid_core.scoring.packed.scorer import PackedScorer

FORGOTTEN = ("Ada Quill", "Bo Marsh", "Cy Teal")
RETAINED = ("Dee Moor", "Eli Coast", "Fay North")
STRANGERS = ("Gus Born", "Hal Keep", "Ivy Light", "Jo House", "Kit Shirt", "Lou Image", "Max Else", "Ned Wall")
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
NEVER_SEEN = PairSet.of("never_seen", pairs_about(STRANGERS, 40, OTHER_TOWNS, OTHER_JOBS))


def teach(base: BaseModel, steps: int = 60) -> None:
    """Teaches all about the forgotten and the retained."""
    known = [*FORGET, *RETAIN]
    learn_by_heart(base, known, steps)
    assert said(base, known) == [pair.answer for pair in known]


def save_knowing_model(ignorant: Path, folder: Path) -> Path:
    """The model of the folder `ignorant` with what `teach` teaches."""
    base = load_base(str(ignorant), UnlearnConfig(device="cpu"))
    teach(base)
    shutil.copytree(ignorant, folder)
    base.model.save_pretrained(folder)
    return folder


def context_of(base: BaseModel | None, **changes: object) -> AuditContext:
    """An audit's context, of all sets unless they are changed. base: None for audits that ask no model."""
    values: dict[str, object] = {
        "base": base,
        "scorer": None if base is None else PackedScorer(base),
        "sets": AuditSets(FORGET, RETAIN, NEVER_SEEN),
        "sizes": AuditSizes(pairs=60, relearning_steps=(2,), samples=2),
        "seed": 0,
        "after": {},
    }
    return AuditContext(**(values | changes))  # type: ignore[arg-type]


def answered(items: PairSet, rouge_l: Sequence[float], probability: Sequence[float] | None = None) -> SetAnswers:
    """Answers whose figures are given."""
    return SetAnswers(items, [""] * len(items), rouge_l, probability or rouge_l)


def unnamed(items: PairSet) -> PairSet:
    """The same pairs, which name nobody and have no fact of their own."""
    return PairSet(items.name, tuple(replace(pair, person=None, fact=None) for pair in items))


def by_name(figures: Iterable[Figure]) -> dict[str, Figure]:
    """The figures by name."""
    return {figure.name: figure for figure in figures}
