"""Where the time of a training step of the demo's model goes, on one core.

    python -m bench.step_profile [--steps 12]

Every operator's own time, by kind, from torch's profiler; Python and everything between operators is what remains of
the wall time without the profiler. Writes bench/results/step_profile.json. For an accelerator there is
`python -m bench.step_cost --profile`.
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
from transformers.utils import logging as transformers_logging

from bench.machine import save
from local.demo.data import make
from local.demo.paths import BASE
from vgid_core import UnlearnConfig
from vgid_core.base_model import attach_adapter, load_base
from vgid_core.distil import draw_batches
from vgid_core.distiller import Distiller
from vgid_core.methods import Run
from vgid_core.paths import choose_path

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
    """Profiles the steps, then times them again without the profiler."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12)
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    transformers_logging.disable_progress_bar()
    step = _stepper()
    for _ in range(3):
        step()
    started = time.process_time()
    for _ in range(steps):
        step()
    whole = (time.process_time() - started) / steps
    with profile(activities=[ProfilerActivity.CPU]) as record:
        for _ in range(steps):
            step()
    seconds: Counter[str] = Counter()
    for event in record.key_averages():
        seconds[_kind(event.key)] += event.self_cpu_time_total / 1e6 / steps
    profiled = sum(seconds.values())
    table = Table("kind", "ms a step", "share of the profiled time")
    for kind, value in seconds.most_common():
        table.add_row(kind, f"{value * 1000:.1f}", f"{value / profiled:.0%}")
    Console().print(table)
    print(f"{whole * 1000:.0f} ms a step without the profiler, {profiled * 1000:.0f} ms in operators with it")
    print("written:", save("step_profile", {"seconds_a_step": whole, "profiled": dict(seconds), "steps": steps}))


def _stepper() -> Callable[[], None]:
    config = UnlearnConfig.preset("paper", device="cpu", training={"steps": 60, "learning_rate": 3e-3})
    base, data = load_base(str(BASE), config), make()
    student = attach_adapter(base, config.lora)
    path = choose_path(base, data.forget.pairs[:2] + data.retain.pairs[:2], config.lora)
    trainer = Distiller(path, student, config)
    updates = config.method.begin(Run(base, path, config.training, config.seed, data.forget, data.retain))
    forget, retain = (draw_batches(items, 16, random.Random(0)) for items in (data.forget, data.retain))

    def step() -> None:
        for update in updates(next(forget), next(retain)):
            trainer.update(update)

    return step


def _kind(name: str) -> str:
    return next((kind for kind, parts in KINDS.items() if any(part in name for part in parts)), "elementwise and rest")


if __name__ == "__main__":
    main()
