"""Profiles a training step of the demo's model on one core.

    python -m bench.step_profile [--method vgid-alias|vgid] [--steps 12] [--runs 5]

It sums each operator's own time by kind, from torch's profiler. The rest of the unprofiled step is Python and whatever
runs between operators. Each run times so many steps, then profiles as many; figures are medians and spread over the
runs. What vgid-alias computes once a forget pair, asking its teachers, is done before and shown apart. Writes
bench/results/step_profile_<method>.json. For an accelerator, use `python -m bench.step_cost --profile`.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile

from bench.machine import save, spread
from bench.methods import DEFAULT, add_method, demo_settings
from local.demo.data import make
from local.demo.paths import BASE
from vgid_core.cli.log_setup import set_up_logs
from vgid_core.data.batches import draw_batches
from vgid_core.lora.attach import attach_adapter
from vgid_core.methods import setup
from vgid_core.methods.base import MethodContext
from vgid_core.models.load import load_base
from vgid_core.scoring.choose import choose_scorer
from vgid_core.training.step import UpdateRunner

SEED = 0
KINDS = {
    "matrix products": ("mm", "addmm", "linear", "bmm", "convolution"),
    "attention": ("scaled_dot_product",),
    "optimiser": ("Optimizer", "adamw", "foreach"),
    "copies, views and layout": (
        "copy", "cat", "view", "slice", "index", "as_strided", "permute", "transpose", "reshape", "clone", "select",
        "empty", "zeros", "fill", "expand", "narrow", "split", "unsqueeze", "arange", "full", "resize", "detach",
    ),
}  # fmt: skip


def main() -> None:
    """Times and profiles the steps in each run, prints and saves."""
    arguments = _arguments()
    torch.set_num_threads(1)
    set_up_logs()
    prepare, step = _stepper(arguments.method)
    preparation = _seconds(prepare, 1)
    for _ in range(3):
        step()
    whole, kinds = [], []
    for _ in range(arguments.runs):
        whole.append(_seconds(step, arguments.steps))
        kinds.append(_profiled(step, arguments.steps))
    found = {kind: spread([run[kind] for run in kinds]) for kind in kinds[0]}
    shares = {kind: spread([run[kind] / run.total() for run in kinds]) for kind in kinds[0]}
    table = Table("kind", "ms a step", "share of the profiled time")
    for kind, value in sorted(found.items(), key=lambda item: -item[1]["median"]):
        share = shares[kind]
        cells = (_with_spread(value, 1000, ".1f"), _with_spread(share, 100, ".0f") + " %")
        table.add_row(kind, *cells)
    Console().print(table)
    step_seconds = spread(whole)
    print(f"{_with_spread(step_seconds, 1000, '.0f')} ms a step without the profiler")
    print(f"{preparation:.1f} s before the first step, once a forget pair")
    figures = {"seconds_a_step": step_seconds, "profiled": found, "shares": shares, "preparation_seconds": preparation}
    config = demo_settings(arguments.method, seed=SEED).model_dump(mode="json")
    record = {"arguments": vars(arguments), "config": config, **figures}
    print("written:", save(f"step_profile_{arguments.method}", record, seed=SEED, runs=arguments.runs))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_method(parser, DEFAULT)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--runs", type=int, default=5)
    return parser.parse_args()


def _seconds(act: Callable[[], object], times: int) -> float:
    """Processor seconds of one call, the mean of `times` calls."""
    started = time.process_time()
    for _ in range(times):
        act()
    return (time.process_time() - started) / times


def _profiled(step: Callable[[], None], steps: int) -> Counter[str]:
    """Seconds per step, by kind of operator."""
    with profile(activities=[ProfilerActivity.CPU]) as record:
        for _ in range(steps):
            step()
    seconds: Counter[str] = Counter()
    for event in record.key_averages():
        seconds[_kind(event.key)] += event.self_cpu_time_total / 1e6 / steps
    return seconds


def _stepper(method: str) -> tuple[Callable[[], object], Callable[[], None]]:
    """Two functions: one prepares all forget pairs, one makes a step."""
    config = demo_settings(method, seed=SEED)
    base, data = load_base(str(BASE), config), make()
    student = attach_adapter(base, config.lora)
    scorer = choose_scorer(base, data.forget.pairs[:2] + data.retain.pairs[:2], config.lora)
    runner = UpdateRunner(scorer, student, config)
    updates = setup(config.method, MethodContext(base, scorer, config.training, config.seed, data.forget, data.retain))
    forget = draw_batches(data.forget, config.training.forget_batch_size, random.Random(config.seed))
    retain = draw_batches(data.retain, config.training.retain_batch_size, random.Random(config.seed + 1))

    def step() -> None:
        for update in updates(next(forget), next(retain)):
            runner.update(update)

    return lambda: updates(data.forget.pairs, next(retain)), step


def _with_spread(value: dict[str, float], scale: float, form: str) -> str:
    median, least, most = (format(value[name] * scale, form) for name in ("median", "min", "max"))
    return f"{median} ({least}-{most})"


def _kind(name: str) -> str:
    return next((kind for kind, parts in KINDS.items() if any(part in name for part in parts)), "elementwise and rest")


if __name__ == "__main__":
    main()
