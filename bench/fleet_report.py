"""The section of the performance guide that `bench.fleet` writes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.fleet_jobs import prepared_passes
from bench.fleet_numbers import BASE_GIB as _GIB
from bench.fleet_numbers import SOURCES, Numbers
from bench.methods import DEFAULT, PUBLISHED, settings
from vgid_core.passes import run_passes

PAGE = Path(__file__).parent.parent / "docs" / "performance" / "fleet.md"

_HEAD = """\
# Past one machine

Written by `python -m bench.fleet`; don't edit. **A simulation**, not a measurement: no fleet was run. It reckons with
the numbers at the end, each marked as measured, published, a default or assumed. Steps, batches and teachers are read
from the methods' defaults: where these or a number in `bench/fleet_numbers.py` have changed, run it again. Medians of
five seeds. The default method has never run on a GPU: its times are VGID's, pass by pass.
"""


def write_report(numbers: Numbers, figures: dict[str, Any], scaling: float) -> str:
    """Writes docs/performance/fleet.md and returns its tables."""
    tables = _full(figures) + _without_least(figures) + _steady(figures)
    bounds = _bounds(numbers, figures, scaling) + _break_even(numbers, figures)
    PAGE.write_text("\n".join([_HEAD, tables, bounds, _methods(numbers), _numbers(numbers)]), encoding="utf-8")
    return tables


def _full(figures: dict[str, Any]) -> str:
    fleets = list(figures["full"])
    lines = [
        "## Always busy\n",
        "| | "
        + " | ".join(f"people an hour, {gpus} GPU{'s' * (gpus > 1)}" for gpus in fleets)
        + " | GPU s a person | $ a person |",
        "|---|" + "--:|" * (len(fleets) + 2),
    ]
    rows = {"retraining without the person, one at a time": figures["retraining"]}
    rows |= {name: {gpus: figures["full"][gpus][name] for gpus in fleets} for name in figures["full"][fleets[0]]}
    for name, by_fleet in rows.items():
        rates = " | ".join(
            f"{by_fleet[gpus]['people_per_hour']:,.{0 if by_fleet[gpus]['people_per_hour'] >= 100 else 2}f}"
            for gpus in fleets
        )
        one = by_fleet[fleets[0]]
        lines.append(f"| {name} | {rates} | {one['gpu_seconds_per_person']:,.1f} | {one['cost_per_person']:,.4f} |")
    return "\n".join(lines) + "\n\n"


def _without_least(figures: dict[str, Any]) -> str:
    """What is left of batching when a job has no least number of steps."""
    lines = [
        "Most of what batching buys there is one assumption: that a job for one person takes all of its method's",
        "steps. If one person needed no more than a sixth of them, what is left is sharing a start, and on one GPU:\n",
        "| | people an hour | GPU s a person | $ a person |",
        "|---|--:|--:|--:|",
    ]
    for name, one in figures["full_without_least"].items():
        numbers = (
            f"{one['people_per_hour']:,.0f} | {one['gpu_seconds_per_person']:,.1f} | {one['cost_per_person']:,.4f}"
        )
        lines.append(f"| {name} | {numbers} |")
    return "\n".join(lines) + "\n\n"


def _steady(figures: dict[str, Any]) -> str:
    rate = figures["arrivals_per_gpu_hour"]
    lines = [
        f"## {rate:.0f} people an hour and GPU, idle hours paid\n",
        "From a request to its artifact, in seconds, by number of GPUs.\n",
        "| | " + " | ".join(f"{gpus}: p50 | p95 | $ a person" for gpus in figures["steady"]) + " |",
        "|---|" + "--:|" * (3 * len(figures["steady"])),
    ]
    for name in figures["steady"][1]:
        cells = [_steady_cells(by_name[name], rate * gpus) for gpus, by_name in figures["steady"].items()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _steady_cells(outcome: dict[str, float], offered: float) -> str:
    if outcome["people_per_hour"] < 0.9 * offered:
        return "can't keep up | | "
    return f"{outcome['latency_p50']:.0f} | {outcome['latency_p95']:.0f} | {outcome['cost_per_person']:.4f}"


def _bounds(numbers: Numbers, figures: dict[str, Any], scaling: float) -> str:
    """What would end linear scaling, and where."""
    parts = figures["jobs"][DEFAULT]
    around = numbers.claim_seconds + parts["packaging"] + numbers.turn_seconds
    job = around + numbers.warm_start_seconds + parts["preparation"] + parts["steps"] + parts["evaluation"]
    rows = [
        ("training, steps", parts["steps"]),
        ("training, asking the teachers before", parts["preparation"]),
        ("evaluation", parts["evaluation"]),
        ("moving the base to the GPU, and the rest of a warm start", numbers.warm_start_seconds),
        ("queue, packaging, taking the old process down", around),
    ]
    shares = "\n".join(f"- {name}: {seconds:.1f} s, {seconds / job:.0%}" for name, seconds in rows)
    return f"""\
## What bounds it

In this simulation GPUs share nothing but the queue, so 64 of them do {scaling:.0%} of 64 times one. A warm job of one
person by the default method takes {job:.0f} s:

{shares}

What the simulation leaves out, in the order in which it would be met:

- **Base loading.** Every job's process reads the base, {_GIB:.1f} GiB each {job:.0f} s and GPU. From the host's page
  cache that is nothing; from shared storage, 64 GPUs would ask for {64 * _GIB / job:.0f} GiB/s. So the base belongs on
  a local disk. In the files' own precision a base is mapped, so a host's spares share one in its page cache; in another
  one each has its own: {8 * _GIB:.0f} GiB for 8 GPUs.
- **Evaluation** is the largest part that isn't training, and its share is this project's bar, not a measurement.
- **Postgres.** A running job writes at most one report a second and a heartbeat every five; a start and an end take
  some ten transactions. 64 GPUs: about {64 * 1.2 + 64 / job * 10:.0f} transactions a second.
- **Queue.** {64 / job:.1f} messages a second for 64 GPUs.
- **One adapter a job.** Requests in one job share an adapter and an artifact. Separate jobs give adapters that a server
  must merge or route between; what several merged adapters do to each other isn't measured here.
"""


def _break_even(numbers: Numbers, figures: dict[str, Any]) -> str:
    once = figures["retraining"][1]["cost_per_person"]
    ours = [outcome for name, outcome in figures["full"][1].items() if name.startswith(f"{DEFAULT},")]
    batched = min(outcome["cost_per_person"] for outcome in ours)
    return f"""\
- **Retraining can be batched too.** One run without everybody who asked costs ${once:,.0f}, however many they are.
  At ${batched:.4f} a person by the default method it is the cheaper way from about {once / batched:,.0f} people a run
  on, if they can wait for it; and it is the only one that removes what was learnt instead of suppressing it.
"""


def _methods(numbers: Numbers) -> str:
    """The methods' own settings, as this tree has them."""
    lines = [
        "## The methods\n",
        f"Defaults of this tree, for a job of {numbers.people_a_run} people. A pass is a pair's way through the",
        "decoder, there or back.\n",
        "| | steps | forget + kept pairs a step | passes in all | of them teachers', asked before the steps |",
        "|---|--:|--:|--:|--:|",
    ]
    pairs = numbers.people_a_run * numbers.forget_pairs_a_person
    for method in (DEFAULT, PUBLISHED):
        config = settings(method).for_sets(pairs, pairs)
        training = config.training
        kept = training.retain_batch_size + config.method.kept_beside_batch
        batches = f"{training.forget_batch_size} + {kept}"
        passes = f"{run_passes(config, pairs, pairs):,} | {prepared_passes(config, pairs):,}"
        lines.append(f"| {method} | {training.steps} | {batches} | {passes} |")
    return "\n".join(lines) + "\n"


def _numbers(numbers: Numbers) -> str:
    rows = [f"| {name.replace('_', ' ')} | {value:g} | {SOURCES[name]} |" for name, value in asdict(numbers).items()]
    return "## The numbers\n\nSeconds and US dollars.\n\n| | | from |\n|---|--:|---|\n" + "\n".join(rows) + "\n"
