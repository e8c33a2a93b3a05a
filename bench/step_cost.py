"""What a training pair costs: the published recipe, a well-tuned baseline, and this project's path, in one run.

    python -m bench.step_cost [--tiny] [--modes published,tuned,packed,compiled,fp8,nf4] [--images 4] [--questions 5]

One pair = one forget question and one retain question, forward, backward and update, at LLaVA-1.5-7B's shapes (576
image tokens, 36 answer tokens, 5 questions an image, LoRA r=16 on the language side, random weights). Medians of 5
steps after warm-up, in which image features and retain targets are filled, as they are after a job's first pass. Also
measures the machine's bf16 matrix throughput, and the time that it needs for the path's own products alone. Prints as
it goes, writes bench/results/step_cost.json; on an accelerator, exits 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from bench.llava_shapes import INSTRUCTION, TINY, Shapes, build_base, make_pairs, quantize_to_nf4, words
from bench.machine import save
from bench.published_recipes import PAIRS, published_step, tuned_step
from vgid_core.base_model import BaseModel, attach_adapter
from vgid_core.config import UnlearnConfig
from vgid_core.data import PairSet
from vgid_core.distil import layer_compiler
from vgid_core.distiller import Distiller
from vgid_core.fp8 import FP8_ROUNDING
from vgid_core.fused_lora import fp8_products
from vgid_core.lessons import Lesson
from vgid_core.methods import Run
from vgid_core.packed_model import Exchange, PackedModel
from vgid_core.packed_path import PackedPath
from vgid_core.packing import PADDING
from vgid_core.paths import choose_path

OURS = {"packed": (False, False), "compiled": (True, False), "fp8": (True, True), "nf4": (False, False)}
# The bars: milliseconds a pair, times faster than published and tuned, share of matrix throughput, GiB.
MOST_MS, MOST_MS_FP8, LEAST_SHARE, MOST_GIB_BF16, MOST_GIB_NF4 = 18.0, 12.0, 0.68, 40.0, 24.0
LEAST_TIMES = {"published": 52.0, "tuned": 12.0}


def main() -> None:
    """Measures the asked modes one after the other and writes what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--modes", default="published,tuned,packed,compiled,fp8,nf4")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--questions", type=int, default=5)
    parser.add_argument("--profile", action="store_true", help="print where the GPU's time goes")
    arguments = parser.parse_args()
    shapes = TINY if arguments.tiny else Shapes()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    throughput = matrix_throughput(device)
    print(f"bf16 matrix throughput: {throughput} TFLOP/s", flush=True)
    figures: dict[str, dict[str, Any]] = {}
    for mode in arguments.modes.split(","):
        if mode in OURS:
            figures[mode] = ours(shapes, device, mode, arguments.images, arguments.questions, arguments.profile)
            if throughput:
                limit = figures[mode]["tera_operations_per_pair"] / throughput * 1000
                figures[mode]["share_of_limit"] = round(limit / figures[mode]["ms_per_pair"], 3)
        else:
            step = (published_step if mode == "published" else tuned_step)(shapes, device)
            figures[mode] = measure(step, PAIRS, device, warm_up=1, runs=3)
            del step
        print(mode, figures[mode], flush=True)
        free(device)
    missed = _missed(figures) if device.type == "cuda" and not arguments.tiny else []
    _print(figures)
    record = {"arguments": vars(arguments), "matrix_tflops": throughput, "figures": figures, "missed": missed}
    print("written:", save("step_cost_tiny" if arguments.tiny else "step_cost", record))
    sys.exit("\n".join(missed) if missed else 0)


def ours(
    shapes: Shapes, device: torch.device, mode: str, images: int, questions: int, profile: bool = False
) -> dict[str, Any]:
    """vgid_core's normal path on `images` photos with so many questions each, forget and retain."""
    compiled, fp8 = OURS[mode]
    base = build_base(shapes, device, torch.bfloat16 if device.type == "cuda" else torch.float32)
    if mode == "nf4":
        quantize_to_nf4(base)
    count = images * questions
    instruction = words(INSTRUCTION, random.Random(1), shapes.vocabulary)
    sizes = {"forget_batch_size": count, "retain_batch_size": count, "micro_batch_size": count}
    config = UnlearnConfig.preset("paper", method={"instruction": instruction}, training=sizes)
    student = attach_adapter(base, config.lora)
    forget, retain = (make_pairs(images, questions, shapes, seed) for seed in (1, 2))
    with fp8_products(student, device) if fp8 else nullcontext():
        compiler = layer_compiler() if compiled else None
        rounding = FP8_ROUNDING if fp8 else None
        path = choose_path(base, [*forget[:2], *retain[:2]], config.lora, compiler, rounding)
        if not isinstance(path, PackedPath) or path.compiled != compiled:
            raise SystemExit(f"the {mode} path was not chosen")
        trainer = Distiller(path, student, config)
        sets = PairSet.of("forget", forget), PairSet.of("retain", retain)
        updates = config.method.begin(Run(base, path, config.training, config.seed, *sets))

        def step() -> None:
            for update in updates(forget, retain):
                trainer.update(update)

        started = time.perf_counter()
        step()
        first = time.perf_counter() - started
        result = measure(step, count, device, warm_up=3) | {"first_step_seconds": round(first, 1)}
        if profile and device.type == "cuda":
            _profile(step)
    lessons = [term.lessons for update in updates(forget, retain) for term in update]
    operations = 2 * shapes.language_weights * _passes(base, *lessons)
    return result | {"tera_operations_per_pair": round(operations / count / 1e12, 3)}


def _passes(base: BaseModel, forget: Sequence[Lesson], retain: Sequence[Lesson]) -> int:
    """Tokens that go through the language tower in a step, each way: the teacher's once, the student's twice.

    Frozen weights get no gradient, so a pass back costs as many products as a pass forward.
    """
    model = PackedModel(base)

    def tokens(exchanges: list[Exchange]) -> int:
        return int((model.lay_out(exchanges).packed.group != PADDING).sum())

    teacher = tokens([Exchange(lesson.shown, lesson.asked, lesson.pair.answer) for lesson in forget])
    student = sum(
        tokens([Exchange(lesson.pair.image, lesson.pair.question, lesson.pair.answer) for lesson in lessons])
        for lessons in (forget, retain)
    )
    return teacher + 2 * student


def measure(
    step: Callable[[], None], pairs: int, device: torch.device, warm_up: int = 2, runs: int = 5
) -> dict[str, Any]:
    """Milliseconds a pair (median, smallest, largest) and the peak of the accelerator's memory."""
    for _ in range(warm_up):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    peak = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0
    scale = 1000 / pairs
    return {
        "ms_per_pair": round(statistics.median(seconds) * scale, 2),
        "min": round(min(seconds) * scale, 2),
        "max": round(max(seconds) * scale, 2),
        "pairs_per_step": pairs,
        "peak_gib": round(peak, 1),
    }


def matrix_throughput(device: torch.device) -> float:
    """TFLOP/s of an 8192-cubed product in bf16; zero without an accelerator."""
    if device.type != "cuda":
        return 0.0
    left, right = (torch.randn(8192, 8192, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(5):
        left @ right
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(20):
        left @ right
    torch.cuda.synchronize()
    return round(20 * 2 * 8192**3 / (time.perf_counter() - started) / 1e12, 1)


def free(device: torch.device) -> None:
    """Gives back what the last mode held."""
    gc.collect()
    torch._dynamo.reset()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _profile(step: Callable[[], None]) -> None:
    activities = [torch.profiler.ProfilerActivity.CUDA, torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as profile:
        step()
    print(profile.key_averages().table(sort_by="self_cuda_time_total", row_limit=22, max_name_column_width=60))


def _missed(figures: dict[str, dict[str, Any]]) -> list[str]:
    """The bars that the measured modes miss."""
    best = figures.get("compiled")
    found = []
    if best:
        found.append((best["ms_per_pair"] <= MOST_MS, f"{best['ms_per_pair']} ms a pair, at most {MOST_MS}"))
        share = best["share_of_limit"]
        found.append((share >= LEAST_SHARE, f"{share} of the matrix throughput, at least {LEAST_SHARE}"))
        for mode, least in LEAST_TIMES.items():
            if mode in figures:
                times = figures[mode]["ms_per_pair"] / best["ms_per_pair"]
                found.append((times >= least, f"{times:.1f} times as fast as {mode}, at least {least}"))
        found.append((best["peak_gib"] <= MOST_GIB_BF16, f"{best['peak_gib']} GiB in bf16, at most {MOST_GIB_BF16}"))
    if "fp8" in figures:
        cost = figures["fp8"]["ms_per_pair"]
        found.append((cost <= MOST_MS_FP8, f"{cost} ms a pair in fp8, at most {MOST_MS_FP8}"))
    if "nf4" in figures:
        peak = figures["nf4"]["peak_gib"]
        found.append((peak <= MOST_GIB_NF4, f"{peak} GiB with NF4 weights, at most {MOST_GIB_NF4}"))
    return [f"missed: {text}" for holds, text in found if not holds]


def _print(figures: dict[str, dict[str, Any]]) -> None:
    table = Table("mode", "ms a pair", "spread", "x published", "x tuned", "share of limit", "peak GiB")
    for mode, row in figures.items():
        times = (
            figures[other]["ms_per_pair"] / row["ms_per_pair"] if other in figures else None for other in LEAST_TIMES
        )
        cells = [
            str(row["ms_per_pair"]),
            f"{row['min']}-{row['max']}",
            *("" if t is None else f"{t:.1f}" for t in times),
        ]
        table.add_row(mode, *cells, str(row.get("share_of_limit", "")), str(row["peak_gib"]))
    Console().print(table)


if __name__ == "__main__":
    main()
