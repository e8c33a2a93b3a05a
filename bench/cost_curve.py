"""Measures how a training pair's cost grows with the photos in a step, and with the questions that share a photo.

    python -m bench.cost_curve [--method vgid|vgid-substitute] [--tiny] [--mode packed]

It runs at LLaVA-1.5-7B's shapes, like `bench.step_cost`, and gives two curves. With 1 to 16 photos of 5 questions each,
the time of a step should grow linearly. With 1 to 20 questions on each of 4 photos, each further question should cost
the same. For vgid-substitute it also measures what asking the teachers costs per forget pair, once a run. After each
point it prints it and writes bench/results/cost_curve_<method>_<mode>.json: what is ended early has left the points
before.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from bench.parts.llava_shapes import TINY, Shapes
from bench.parts.machine import device_at_hand, save
from bench.parts.methods import PUBLISHED, add_method, settings
from bench.step_cost import OURS, RUNS, SEED, config_of, free, ours

IMAGES = (1, 2, 4, 8, 16)
QUESTIONS = (1, 2, 5, 10, 20)


def main() -> None:
    """Measures every point for which the memory suffices."""
    arguments = read_arguments()
    shapes = TINY if arguments.tiny else Shapes()
    device = device_at_hand()
    # A point's batches are as large as the point; the rest is the method's own.
    record = {"arguments": vars(arguments), "config": settings(arguments.method).model_dump(mode="json")}
    points: list[dict[str, Any]] = []
    for images, questions in [*((n, 5) for n in IMAGES), *((4, n) for n in QUESTIONS if n != 5)]:
        config = config_of(arguments.method, images * questions, shapes)
        try:
            found = ours(shapes, device, arguments.mode, images, questions, config)
        except torch.OutOfMemoryError:
            found = {"ms_per_pair": None, "peak_gib": None}
        points.append({"images": images, "questions": questions, **found})
        written = save(name_of(arguments), {**record, "points": points}, seed=SEED, runs=RUNS)
        print(points[-1], "written:", written, flush=True)
        free(device)
    _print(points)


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_method(parser, PUBLISHED)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--mode", default="packed", choices=list(OURS))
    return parser.parse_args()


def name_of(arguments: argparse.Namespace) -> str:
    """The result's name."""
    return f"cost_curve_{arguments.method}_{arguments.mode}" + ("_tiny" if arguments.tiny else "")


def _print(points: list[dict[str, Any]]) -> None:
    table = Table(
        "photos", "questions a photo", "ms a step", "ms a pair", "spread", "preparation, ms a pair", "peak GiB"
    )
    for point in sorted(points, key=lambda p: (p["questions"] != 5, p["images"], p["questions"])):
        cost, once = point["ms_per_pair"], point.get("preparation", {"ms_per_pair": ""})
        cells = ["out of memory"]
        if cost is not None:
            step = f"{cost * point['images'] * point['questions']:.0f}"
            spread = f"{point['min']}-{point['max']}"
            cells = [step, str(cost), spread, str(once["ms_per_pair"]), str(point["peak_gib"])]
        table.add_row(str(point["images"]), str(point["questions"]), *cells)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
