"""Measures what a training pair costs with the published recipe, a well-tuned baseline, and this project's scorer.

    python -m bench.step_cost [--method vgid|vgid-substitute] [--tiny] [--modes packed,compiled] [--images 4]
    [--questions 5]

A pair is one forget question and one retain question: forward, backward and update. The shapes are LLaVA-1.5-7B's (576
image tokens, 36 answer tokens, 5 questions an image, LoRA r=16 on the language side), the weights random. Figures are
medians of 5 steps after a warm-up, which computes image features and retain targets as a job's first pass does. It also
measures the machine's bf16 matrix throughput, and compares a step with the time of its matrix products alone. After
each mode it prints the figures and writes bench/results/step_cost_<method>.json, with --modes
step_cost_<method>_<modes>.json: what is ended early has left the modes before.

The published recipe and the bars belong to VGID as published, the default here. On an accelerator it exits with 3 if a
measured mode misses a bar. vgid-substitute asks its teachers before the steps; what that costs per forget pair, once a
run, is shown apart. Memory is torch.cuda.max_memory_allocated, without the driver's context.
"""

from __future__ import annotations

import argparse
import gc
import statistics
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from bench.parts.bars import exit_if_missed
from bench.parts.llava_shapes import TINY, Shapes, build_base, make_pairs, quantize_to_nf4
from bench.parts.machine import device_at_hand, now, save
from bench.parts.methods import DEFAULT, PUBLISHED, add_method, shaped_settings
from bench.parts.published_recipes import PAIRS, published_step, tuned_step
from vgid_core import UnlearnConfig
from vgid_core.data.examples import DistillExample, Side
from vgid_core.data.pairs import Pair, PairSet
from vgid_core.lora.attach import attach_adapter
from vgid_core.lora.fp8 import FP8_ROUNDING
from vgid_core.lora.fused_product import fp8_products
from vgid_core.methods import setup
from vgid_core.methods.base import MethodContext
from vgid_core.methods.loss_terms import Update
from vgid_core.models.base import BaseModel
from vgid_core.scoring.choose import choose_scorer
from vgid_core.scoring.packed.model import PackedModel
from vgid_core.scoring.packed.rows import PADDING
from vgid_core.scoring.packed.scorer import PackedScorer
from vgid_core.training.loop import layer_compiler
from vgid_core.training.step import UpdateRunner

SEED = 0  # of the run and the model's random weights; pairs have seeds of their own
RUNS = 5
OURS = {"packed": (False, False), "compiled": (True, False), "fp8": (True, True), "nf4": (False, False)}
# The bars: milliseconds a pair, times faster than published and tuned, share of matrix throughput, GiB.
MOST_MS, MOST_MS_FP8, LEAST_SHARE, MOST_GIB_BF16, MOST_GIB_NF4 = 18.0, 12.0, 0.68, 40.0, 24.0
LEAST_TIMES = {"published": 52.0, "tuned": 12.0}


def main() -> None:
    """Measures the modes one after the other, prints and saves."""
    arguments = read_arguments()
    shapes = TINY if arguments.tiny else Shapes()
    config = config_of(arguments.method, arguments.images * arguments.questions, shapes)
    device = device_at_hand()
    throughput = matrix_throughput(device)
    print(f"bf16 matrix throughput: {throughput} TFLOP/s", flush=True)
    barred = arguments.method == PUBLISHED and device.type == "cuda" and not arguments.tiny
    record = {"arguments": vars(arguments), "config": config.model_dump(mode="json"), "matrix_tflops": throughput}
    figures: dict[str, dict[str, Any]] = {}
    missed: list[str] = []
    for mode in arguments.modes:
        figures[mode] = _figures(shapes, device, mode, config, arguments)
        if throughput and mode in OURS:
            limit = figures[mode]["tera_operations_per_pair"] / throughput * 1000
            figures[mode]["share_of_limit"] = round(limit / figures[mode]["ms_per_pair"], 3)
        missed = missed_bars(figures) if barred else []
        written = save(name_of(arguments), {**record, "figures": figures, "missed": missed}, seed=SEED, runs=RUNS)
        print(mode, figures[mode], "written:", written, flush=True)
        free(device)
    _print(figures)
    exit_if_missed(missed)


def read_arguments() -> argparse.Namespace:
    """The command line. `modes` becomes a list in our order: the recipes and then our own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_method(parser, PUBLISHED)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument(
        "--modes", help="all that the method has, if not given: published,tuned,packed,compiled,fp8,nf4"
    )
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--questions", type=int, default=5)
    parser.add_argument("--profile", action="store_true", help="print where the GPU's time goes")
    arguments = parser.parse_args()
    known = _modes_of(arguments.method)
    chosen = arguments.modes.split(",") if arguments.modes else known
    if unknown := set(chosen) - set(known):
        parser.error(f"--method {arguments.method} has no mode {', '.join(sorted(unknown))}, but {', '.join(known)}")
    arguments.modes = [mode for mode in known if mode in chosen]
    return arguments


def _modes_of(method: str) -> list[str]:
    """All modes of the method. The published recipe and its baseline are VGID as published."""
    return [*(LEAST_TIMES if method == PUBLISHED else ()), *OURS]


def name_of(arguments: argparse.Namespace) -> str:
    """The result's name. It has the modes unless these are all, so that two parts don't overwrite each other."""
    parts = ["step_cost", arguments.method]
    if arguments.modes != _modes_of(arguments.method):
        parts += arguments.modes
    return "_".join([*parts, "tiny"] if arguments.tiny else parts)


def _figures(
    shapes: Shapes, device: torch.device, mode: str, config: UnlearnConfig, arguments: argparse.Namespace
) -> dict[str, Any]:
    if mode in OURS:
        return ours(shapes, device, mode, arguments.images, arguments.questions, config, arguments.profile)
    step = (published_step if mode == "published" else tuned_step)(shapes, device)
    return measure(step, PAIRS, device, warm_up=1)


def ours(
    shapes: Shapes,
    device: torch.device,
    mode: str,
    images: int,
    questions: int,
    config: UnlearnConfig,
    profile: bool = False,
) -> dict[str, Any]:
    """Measures vgid_core's own step on `images` photos with so many questions each, for forget and retain.

    config: of `config_of` for as many pairs.
    """
    _, fp8 = OURS[mode]
    base = build_base(shapes, device, torch.bfloat16 if device.type == "cuda" else torch.float32)
    if mode == "nf4":
        quantize_to_nf4(base)
    count = images * questions
    student = attach_adapter(base, config.lora)
    forget, retain = (make_pairs(images, questions, shapes, seed) for seed in (1, 2))
    with fp8_products(student, device) if fp8 else nullcontext():
        scorer = _packed_scorer(base, [*forget[:2], *retain[:2]], config, mode)
        sets = PairSet.of("forget", forget), PairSet.of("retain", retain)
        run = MethodContext(base, scorer, config.training, config.seed, *sets)
        runner, updates = UpdateRunner(scorer, student, config), setup(config.method, run)

        def step() -> None:
            for update in updates(forget, retain):
                runner.update(update)

        started = now()
        step()
        first = now() - started
        result = measure(step, count, device, warm_up=3) | {"first_step_seconds": round(first, 1)}
        if config.method.name == DEFAULT:
            result["preparation"] = measure(lambda: setup(config.method, run)(forget, retain), count, device, warm_up=1)
        if profile and device.type == "cuda":
            _profile(step)
    operations = 2 * shapes.language_weights * _count_token_passes(base, updates(forget, retain))
    return result | {"tera_operations_per_pair": round(operations / count / 1e12, 3)}


def _packed_scorer(base: BaseModel, probe_pairs: list[Pair], config: UnlearnConfig, mode: str) -> PackedScorer:
    """The packed scorer for this mode. Exits if another one is chosen."""
    compiled, fp8 = OURS[mode]
    compiler = layer_compiler() if compiled else None
    scorer = choose_scorer(base, probe_pairs, config.lora, compiler, FP8_ROUNDING if fp8 else None)
    if not isinstance(scorer, PackedScorer) or scorer.compiled != compiled:
        raise SystemExit(f"the {mode} scorer was not chosen")
    return scorer


def config_of(method: str, pairs: int, shapes: Shapes) -> UnlearnConfig:
    """The method's own settings, with all `pairs` in one micro-batch."""
    sizes = {"forget_batch_size": pairs, "retain_batch_size": pairs, "micro_batch_size": pairs}
    return shaped_settings(method, shapes, seed=SEED, training=sizes)


def _count_token_passes(base: BaseModel, updates: Sequence[Update]) -> int:
    """How many tokens pass through the language tower in a step: the teacher's once, the student's twice.

    Frozen weights get no gradient, so the backward pass has as many products as the forward pass. A teacher that sees
    the pair's own image, or was asked before the step, costs the step nothing.
    """
    model = PackedModel(base)

    def tokens(examples: Sequence[DistillExample], side: Side) -> int:
        return int((model.lay_out(examples, side).packed.group != PADDING).sum()) if examples else 0

    count = 0
    for examples in (term.examples for update in updates for term in update):
        taught = [example for example in examples if example.teacher_image is not example.pair.image]
        count += tokens(taught, "teacher") + 2 * tokens(examples, "student")
    return count


def measure(step: Callable[[], object], pairs: int, device: torch.device, warm_up: int = 2) -> dict[str, Any]:
    """Times the step. Returns milliseconds per pair (median, least, most) and the accelerator's peak memory."""
    for _ in range(warm_up):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(RUNS):
        started = now()
        step()
        seconds.append(now() - started)
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
    """TFLOP/s of an 8192-cubed product in bf16, or zero without an accelerator."""
    if device.type != "cuda":
        return 0.0
    left, right = (torch.randn(8192, 8192, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(5):
        left @ right
    started = now()
    for _ in range(20):
        left @ right
    return round(20 * 2 * 8192**3 / (now() - started) / 1e12, 1)


def free(device: torch.device) -> None:
    """Frees the memory of the last mode."""
    gc.collect()
    torch._dynamo.reset()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _profile(step: Callable[[], None]) -> None:
    activities = [torch.profiler.ProfilerActivity.CUDA, torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as profile:
        step()
    print(profile.key_averages().table(sort_by="self_cuda_time_total", row_limit=22, max_name_column_width=60))


def missed_bars(figures: dict[str, dict[str, Any]]) -> list[str]:
    """The bars that the measured modes miss. A mode that was left out has none."""
    found: list[tuple[bool, str]] = []
    if best := figures.get("compiled"):
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
    return [text for holds, text in found if not holds]


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
        if "preparation" in row:
            once = row["preparation"]
            spread = f"{once['min']}-{once['max']}"
            table.add_row("preparation", str(once["ms_per_pair"]), spread, "", "", "", str(once["peak_gib"]))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
