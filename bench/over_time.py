"""Twenty requests, one after the other: is everybody still forgotten after the last, and is everybody else still known?

    python -m bench.over_time [--modes replay sets ...] [--requests 20] [--steps N] [--processes 2] [--tuning]

Each request is about one or two people of the shipped demo model. Its release starts from the adapter of the release
before, learns from the base, and forgets the new pairs and the replay sets of everybody before. replay_sets: one photo
a person with all its questions. alone: no replay set is kept. batches: with replay sets, five requests a run. question:
replay sets of one question on one photo. rank16: with replay sets, an adapter of rank 16. rebuild: one run from the
base by everybody's replay sets. at_once: the same by all pairs.

After each release: everybody forgotten so far on registered photos and on photos never seen, prefilled answers,
Extraction Strength, candidate ranking, membership; everyone else, visual answers, neighbours; the adapter's rank;
processor time. Membership also of each group of six for whom there are reference models, from what these give. By these
people nothing was chosen; --tuning: others, by whom the settings were.

Writes bench/results/over_time[_tuning].json after every line, whose older lines of other modes stay, and exits with 3
if a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from bench.parts.audited import Case, case_of
from bench.parts.bars import exit_if_missed
from bench.parts.demo_models import SHIPPED
from bench.parts.line_chart import Panel, line_chart
from bench.parts.line_figures import figures_of, from_references, kept_of
from bench.parts.machine import RESULTS, save
from bench.parts.reference_models import FORGET_SETS
from local.demo.world import the_world
from vgid_core import Pair, PairSet, UnlearnConfig
from vgid_core.artifact import write_adapter
from vgid_core.cli.log_setup import set_up_logs
from vgid_core.models.base import BaseModel
from vgid_core.models.load import load_base
from vgid_core.training.loop import distil

# Of these nobody stood in a set by which a setting was chosen.
_REPORTED = (*(number for group in FORGET_SETS for number in group), 10, 13, 22, 28, 37, 41, 50, 55, 59)
_TUNING = (0, 1, 2, 3, 4, 5, 12, 19, 31, 46, 51, 6, 14, 21, 23, 24, 30, 32, 33, 36, 39, 42, 45, 48, 54, 57, 15)
_REQUESTS = 20
_BATCH = 5
_PICTURE = Path(__file__).parents[1] / "docs" / "images" / "over-time.svg"
_DRAWN = {
    "replay_sets": "replay_sets",
    "rank16": "replay sets, rank 16",
    "alone": "no replay sets",
    "batches": "replay sets, by five",
}
# Largest figures after the last release. What stands in no set is reported, and has none.
BARS = {
    "generated": 0.10, "generated_unseen": 0.10, "prefilled": 0.05,
    "drop.retain_check": 0.03, "drop.visual": 0.03, "rank": 16,
}  # fmt: skip
REPLAY_BARS = {"from_references.worst": 0.15, "first": 0.05, "first_five": 0.15, "last": 0.05, "last_five": 0.15}


@dataclass(frozen=True)
class Mode:
    """How a line of releases is made.

    replay_photos: of each earlier person; 0 keeps nothing. replay_questions: on each of these. batch: requests a run.
    rank: of the adapter; None for the default. from_replay_sets: the new ones, too, are forgotten by replay sets.
    """

    replay_photos: int
    batch: int = 1
    replay_questions: int | None = None
    rank: int | None = None
    from_replay_sets: bool = False


MODES = {
    "replay_sets": Mode(1),
    "alone": Mode(0),
    "batches": Mode(1, _BATCH),
    "question": Mode(1, replay_questions=1),
    "rank16": Mode(1, rank=16),
    "rebuild": Mode(1, _REQUESTS, from_replay_sets=True),
    "at_once": Mode(1, _REQUESTS),
}


def requests(people: Sequence[int]) -> list[tuple[int, ...]]:
    """The people in requests of one or two, in a drawn order: as many of two as are left over."""
    drawn = random.Random(0).sample(people, len(people))
    twos = len(drawn) - _REQUESTS
    sizes = [2] * twos + [1] * (_REQUESTS - twos)
    random.Random(1).shuffle(sizes)
    taken = iter(drawn)
    return [tuple(next(taken) for _ in range(size)) for size in sizes]


def main() -> None:
    """Runs every mode, prints and saves."""
    arguments = _arguments()
    set_up_logs()
    asked = requests(_TUNING if arguments.tuning else _REPORTED)[: arguments.requests]
    name = "over_time" + ("_tuning" if arguments.tuning else "")
    found: dict[str, list[dict[str, Any]]] = {}
    with ProcessPoolExecutor(arguments.processes, get_context("spawn")) as pool, tempfile.TemporaryDirectory() as work:
        folders = {mode: Path(work) / mode for mode in arguments.modes}
        lines = {
            mode: pool.submit(_line, MODES[mode], asked, folder, arguments.steps) for mode, folder in folders.items()
        }
        for mode, line in lines.items():
            found[mode] = line.result()
            lines_so_far = _kept_lines(name) | found
            written = save(name, {"bars": BARS | REPLAY_BARS, "lines": lines_so_far}, seed=0, runs=len(asked))
    if not arguments.tuning:
        draw(lines_so_far)
    _print(found)
    print("written:", written)
    exit_if_missed(_missed(found))


def draw(lines: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Draws forgetting and what others lose over the requests, for docs/concepts/releases.md."""

    def over(key: str) -> dict[str, list[tuple[float, float]]]:
        drawn = {name: lines[mode] for mode, name in _DRAWN.items() if mode in lines}
        return {name: [(row["people"], row[key]) for row in rows] for name, rows in drawn.items()}

    panels = [
        Panel("answers about the forgotten (ROUGE-L)", over("generated"), 1.0),
        Panel("known people in no set: what they lose", over("drop.neighbours"), 0.8),
        Panel("everyone else: what they lose", over("drop.retain_check"), 0.1),
    ]
    _PICTURE.write_text(line_chart("A line of twenty requests", "people forgotten so far", panels), encoding="utf-8")


def _kept_lines(name: str) -> dict[str, list[dict[str, Any]]]:
    """The lines that an earlier call has written."""
    file = RESULTS / f"{name}.json"
    return dict(json.loads(file.read_text(encoding="utf-8"))["lines"]) if file.exists() else {}


def _missed(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    missed = []
    for mode, rows in found.items():
        bars = BARS | (REPLAY_BARS if MODES[mode].replay_photos else {})
        missed += [f"{mode}: {key} {rows[-1][key]:.3f}" for key, most in bars.items() if rows[-1].get(key, 0) > most]
    return missed


def _line(mode: Mode, asked: Sequence[tuple[int, ...]], work: Path, steps: int | None) -> list[dict[str, Any]]:
    """The rows of one line of releases, a row a release. steps: of each run that has a start; None: as of any run."""
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    start: Path | None = None
    done: list[int] = []
    everybody = case_of([person for group in asked for person in group], SHIPPED.neighbours, SHIPPED.census)
    before = kept_of(load_base(str(SHIPPED.base), _config()), everybody, _config())
    for number, group in enumerate(_batches(asked, mode.batch), 1):
        case = case_of([*done, *group], SHIPPED.neighbours, SHIPPED.census)
        folder = work / str(number)
        base, seconds = _release(mode, case, group, start, folder, steps)
        row = {
            "release": number,
            "people": len(case.forgotten),
            "seconds": seconds,
            "rank": _config(mode.rank).lora.rank,
        }
        row |= figures_of(base, case, _config())
        row |= {f"drop.{name}": before[name] - value for name, value in kept_of(base, everybody, _config()).items()}
        if len(case.forgotten) == len(everybody.forgotten):
            row |= from_references(base, case.forgotten, _config())
        rows.append(row)
        print(" ".join(f"{key}={value:.3g}" for key, value in row.items()), flush=True)
        done += group
        start = folder
    return rows


def _batches(asked: Sequence[tuple[int, ...]], size: int) -> Iterator[tuple[int, ...]]:
    for first in range(0, len(asked), size):
        yield tuple(person for group in asked[first : first + size] for person in group)


def _release(
    mode: Mode, case: Case, group: Sequence[int], start: Path | None, folder: Path, steps: int | None
) -> tuple[BaseModel, float]:
    """Trains the release's adapter into the folder. Returns the model with it, and the processor seconds."""
    config = _config(mode.rank)
    people = the_world(SHIPPED.census).people
    new = {people[number].name for number in group}
    pairs = [pair for pair in case.forget if pair.person in new]
    if mode.from_replay_sets:
        pairs = _replay_sets(pairs, set(), mode)
    replay_sets = _replay_sets(case.forget, new, mode)
    base = load_base(str(SHIPPED.base), config)
    started = time.process_time()
    config = config.for_pairs(len(pairs))
    if start is not None and steps is not None:
        config = config.model_copy(update={"training": config.training.model_copy(update={"steps": steps})})
    result = distil(
        base,
        PairSet.of("forget", [*pairs, *replay_sets]),
        case.retain,
        config,
        unseen_faces=case.unseen_faces.photos,
        start=start,
    )
    seconds = time.process_time() - started
    write_adapter(result.student, folder, "demo")
    return base, seconds


def _replay_sets(forget: Iterable[Pair], new: set[str], mode: Mode) -> list[Pair]:
    """The first questions on the first photos of everybody who isn't new, as many as the mode says."""
    replay_sets: dict[str, dict[str, list[Pair]]] = {}
    for pair in forget:
        if pair.person not in new:
            replay_sets.setdefault(str(pair.person), {}).setdefault(pair.image.digest, []).append(pair)
    photos = [pairs for of_person in replay_sets.values() for pairs in list(of_person.values())[: mode.replay_photos]]
    return [pair for pairs in photos for pair in pairs[: mode.replay_questions]]


def _config(rank: int | None = None) -> UnlearnConfig:
    lora = {} if rank is None else {"lora": {"rank": rank, "alpha": rank}}
    audits = {"evaluation": {"audits": "quick", "max_pairs": 300}}
    return UnlearnConfig.model_validate({**SHIPPED.default, **lora, **audits})


def _print(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    table = Table(title="after the last release")
    keys = [key for key in next(iter(found.values()))[-1] if key not in ("release",)]
    for title in ("mode", *keys):
        table.add_column(title)
    for mode, rows in found.items():
        table.add_row(mode, *(f"{rows[-1][key]:.3g}" for key in keys))
    Console(width=200).print(table)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modes", type=lambda text: text.split(","), default=list(MODES))
    parser.add_argument("--requests", type=int, default=_REQUESTS)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--tuning", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
