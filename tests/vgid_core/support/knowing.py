"""The tiny model, taught some people by heart, and the sets of a run that is to forget two of them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.vgid_core.support.speaking import learn_by_heart, said
from tests.vgid_core.support.tiny import picture
from vgid_core import Pair, PairSet, UnlearnConfig
from vgid_core.models.load import load_base


def people(name: str, known: Sequence[tuple[str, str]], first_picture: int) -> PairSet:
    """Two pairs about each person, who has a name, a town and a photo."""
    pairs = []
    for number, (person, town) in enumerate(known, first_picture):
        told = (("Who is this?", f"This is {person}.", person), ("Born where?", f"Born in {town}.", town))
        pairs += [Pair(picture(number), question, answer, person, fact) for question, answer, fact in told]
    return PairSet.of(name, pairs)


FORGET = people("forget", [("Ada Quill", "Fernmoor"), ("Cy Dorn", "Tallow")], 0)
RETAIN = people(
    "retain", [("Bo Marsh", "Ostrey"), ("Di Penn", "Ilmar"), ("Ed Vane", "Corby"), ("Flo Rook", "Wexley")], 20
)
# Told on any photo, as general knowledge is.
COMMON = PairSet.of(
    "common", [Pair(picture(number), "How many legs has a cat?", "It has 4.") for number in (0, 20, 21, 22, 23, 40, 41)]
)
NEVER_SEEN = people("never_seen", [("Gus Hale", "Nether"), ("Ivy Bram", "Stowe"), ("Jo Lund", "Brack")], 80)


def save_knowing_model(ignorant: Path, folder: Path) -> Path:
    """The model of the folder `ignorant`, taught FORGET, RETAIN and COMMON, with its processor in `folder`."""
    base = load_base(str(ignorant), UnlearnConfig(device="cpu"))
    taught = [*FORGET, *RETAIN, *COMMON]
    learn_by_heart(base, taught, steps=120)
    assert said(base, taught) == [pair.answer for pair in taught]
    shutil.copytree(ignorant, folder)
    base.model.save_pretrained(folder)
    return folder
