"""Reads the sets of a run file."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from vgid_core.data.facts import Fact, fact_of
from vgid_core.data.pairs import DataError, PairSet
from vgid_core.data.photos import PhotoSet
from vgid_core.data.readers import read_set
from vgid_core.data.readers.reading import prefixed

if TYPE_CHECKING:
    from vgid_core.cli.inputs.run_file import RunFile


def read_pairs(source: str, name: str | None = None) -> PairSet:
    """Reads the set at `source` and decodes each image once. Raises DataError naming the place."""
    pairs = read_set(source, name)
    decoded: set[str] = set()
    for index, pair in enumerate(pairs):
        if pair.image.digest not in decoded:
            decoded.add(pair.image.digest)
            _require_decodable(pairs, index)
    return pairs


def read_run_set(run: RunFile, key: str) -> PairSet:
    """Reads the run's set `key`, such as forget or probes.rephrased, and decodes each image once.

    Raises DataError naming the place; if nothing can be read, naming the flag or key and the path.
    """
    table, _, name = key.rpartition(".")
    source = attrgetter(table)(run)[name] if table else run.require(key)
    try:
        return read_pairs(source, name)
    except DataError as error:
        if error.field != name:
            raise
        raise DataError(f"{source}: {error.reason}", run.source_of(key)) from error.__cause__


def read_run_photos(run: RunFile, key: str) -> PhotoSet:
    """Reads the run's photos `key` and decodes each once. Raises DataError as `read_run_set` does."""
    source = run.require(key)
    try:
        return PhotoSet.read(source, key)
    except DataError as error:
        if error.field != key:
            raise
        raise DataError(f"{source}: {error.reason}", run.source_of(key)) from error.__cause__


def read_for_attacks(run: RunFile, forget: PairSet) -> tuple[PairSet | None, tuple[Fact, ...]]:
    """Reads the run's unseen set, or None, and the facts to attack: the run's own, else the forget set's.

    Raises DataError as `read_run_set` does.
    """
    unseen = None if run.unseen is None else read_run_set(run, "unseen")
    if run.facts is None:
        return unseen, tuple(map(fact_of, forget))
    return unseen, tuple(map(fact_of, read_run_set(run, "facts")))


def _require_decodable(pairs: PairSet, index: int) -> None:
    try:
        pairs.pairs[index].image.decode()
    except DataError as error:
        raise prefixed(error, f"{pairs.name}[{index}].") from None
