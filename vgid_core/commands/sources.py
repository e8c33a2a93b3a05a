"""Where commands get their sets from: the one place that turns what was written into pairs."""

from __future__ import annotations

import re
from pathlib import Path

from vgid_core.compare.facts import read_facts, second_half
from vgid_core.compare.plan import Fact
from vgid_core.data import DataError, PairSet
from vgid_core.readers import read_set
from vgid_core.readers.jsonl import recognises

_FORMATTED = re.compile(r"(?P<format>[a-z][a-z0-9_-]+):(?P<path>.+)", re.DOTALL)


def resolved(source: str, folder: Path) -> str:
    """`source` with its path made absolute, seen from `folder`; a leading `format:` stays."""
    parts = _FORMATTED.fullmatch(source)
    if parts is None or (folder / source).exists():
        return str((folder / source).resolve())
    return f"{parts['format']}:{(folder / parts['path']).resolve()}"


def read_pairs(source: str, name: str) -> PairSet:
    """The set at `source`, every picture's header read. Raises DataError naming the place."""
    pairs = read_set(source, name)
    seen: set[str] = set()
    for index, pair in enumerate(pairs):
        if pair.image.digest not in seen:
            seen.add(pair.image.digest)
            _require_picture(pairs, index)
    return pairs


def read_facts_of(source: str, pairs: PairSet) -> tuple[Fact, ...]:
    """A fact a pair of the set that was read from `source`: what a JSONL line names, else half of the answer.

    Raises DataError naming the line whose fact isn't part of its answer.
    """
    if recognises(Path(source)):
        return read_facts(Path(source), pairs)
    return tuple(second_half(pair) for pair in pairs)


def _require_picture(pairs: PairSet, index: int) -> None:
    try:
        _ = pairs.pairs[index].image.size
    except DataError:
        raise DataError("is not a readable image", f"{pairs.name}[{index}].image") from None
