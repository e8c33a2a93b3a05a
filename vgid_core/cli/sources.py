"""Where commands get their sets from: the one place that turns what was written into pairs."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from vgid_core.data.facts import Fact, read_facts
from vgid_core.data.pairs import DataError, PairSet
from vgid_core.data.photos import PhotoSet
from vgid_core.data.readers import read_set
from vgid_core.data.readers.reading import prefixed

if TYPE_CHECKING:
    from vgid_core.cli.run_file import RunFile


def read_pairs(source: str, name: str | None = None) -> PairSet:
    """The set at `source`, every picture decoded once. Raises DataError naming the place."""
    pairs = read_set(source, name)
    seen: set[str] = set()
    for index, pair in enumerate(pairs):
        if pair.image.digest not in seen:
            seen.add(pair.image.digest)
            _require_picture(pairs, index)
    return pairs


def read_of(run: RunFile, key: str) -> PairSet:
    """The run's set of this key (`forget`, `probes.rephrased`), every picture decoded once.

    Raises DataError naming the place; of a source that can't be read at all the flag or key, and the path.
    """
    table, _, name = key.rpartition(".")
    source = attrgetter(table)(run)[name] if table else run.needed(key)
    try:
        return read_pairs(source, name)
    except DataError as error:
        if error.field != name:
            raise
        raise DataError(f"{source}: {error.reason}", run.named(key)) from error.__cause__


def read_photos_of(run: RunFile, key: str) -> PhotoSet:
    """The run's photos of this key, every picture decoded once. Raises DataError as `read_of` does."""
    source = run.needed(key)
    try:
        return PhotoSet.read(source, key)
    except DataError as error:
        if error.field != key:
            raise
        raise DataError(f"{source}: {error.reason}", run.named(key)) from error.__cause__


def read_for_attacks(run: RunFile, forget: PairSet) -> tuple[PairSet | None, tuple[Fact, ...]]:
    """The run's never-seen set, if it has one, and the facts to ask for: its own, else those of its forget set.

    Raises DataError as `read_of` does.
    """
    never_seen = None if run.never_seen is None else read_of(run, "never_seen")
    if run.facts is None:
        return never_seen, read_facts(run.needed("forget"), forget)
    return never_seen, read_facts(run.facts, read_of(run, "facts"))


def _require_picture(pairs: PairSet, index: int) -> None:
    try:
        pairs.pairs[index].image.decode()
    except DataError as error:
        raise prefixed(error, f"{pairs.name}[{index}].") from None
