"""Measures what a whole job costs at LLaVA-1.5-7B's shapes, by phase: evaluation before and after, and training.

    python -m bench.job_cost [--method vgid-substitute|vgid] [--tiny] [--weights full|nf4]

The job forgets 6 people with 5 questions each. It has two probes of the same size, 150 retain and 150 utility pairs,
and the method's own steps and batches. The expected answers are the model's own, as if it knew the people. After the
training it gives others for the forget set, which must be generated. vgid-substitute asks its teachers before a step's
loss, once a forget pair; that is shown apart from the step. Writes bench/results/job_cost_<method>_<weights>.json.

The bars hold for VGID as published. With --method vgid on an accelerator, it exits with 3 if evaluation takes more than
30 % of the training's time, or the job more than 40 GiB (24 with NF4 weights). Memory is
torch.cuda.max_memory_allocated, without the driver's context.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from rich.console import Console
from rich.table import Table

from bench.parts.bars import exit_if_missed
from bench.parts.llava_shapes import TINY, Shapes, build_base, make_pairs, quantize_to_nf4
from bench.parts.machine import device_at_hand, now, save, spread
from bench.parts.methods import DEFAULT, PUBLISHED, add_method, preparations, shaped_settings
from vgid_core import Pair, PairSet, UnlearnConfig
from vgid_core.evaluation.evaluate import evaluate
from vgid_core.evaluation.metric import Metric
from vgid_core.models.base import BaseModel
from vgid_core.scoring.choose import choose_scorer
from vgid_core.scoring.packed.scorer import PackedScorer
from vgid_core.scoring.padded import generate
from vgid_core.training.loop import distil

MOST_SHARE = 0.30
MOST_GIB = {"full": 40.0, "nf4": 24.0}
Result = TypeVar("Result")


def main() -> None:
    """Runs one job and prints the seconds of its phases."""
    arguments = read_arguments()
    shapes = TINY if arguments.tiny else Shapes()
    device = device_at_hand()
    config = shaped_settings(arguments.method, shapes, evaluation={"max_new_tokens": 36})
    base = build_base(shapes, device, torch.bfloat16 if device.type == "cuda" else torch.float32)
    if arguments.weights == "nf4":
        quantize_to_nf4(base)
    found = _job(base, config, shapes)
    _print(found)
    record = {"arguments": vars(arguments), "config": config.model_dump(mode="json"), **found}
    print("written:", save(name_of(arguments), record, seed=config.seed, runs=1))
    if arguments.method == PUBLISHED and device.type == "cuda" and not arguments.tiny:
        exit_if_missed(_missed(found, MOST_GIB[arguments.weights]))


def _missed(found: dict[str, Any], most_gib: float) -> list[str]:
    share, peak = found["evaluation_share"], found["peak_gib"]
    bars = [
        (share <= MOST_SHARE, f"evaluation takes {share:.0%} of the training's time, at most {MOST_SHARE:.0%}"),
        (peak <= most_gib, f"{peak:.1f} GiB, at most {most_gib}"),
    ]
    return [text for holds, text in bars if not holds]


def _job(base: BaseModel, config: UnlearnConfig, shapes: Shapes) -> dict[str, Any]:
    counts = {"forget": 6, "held_out": 6, "rephrased": 6, "retain": 30, "utility": 30}
    sets = {name: _pairs_with_own_answers(base, name, images, shapes) for name, images in counts.items()}
    forget, retain, measured = sets["forget"], sets["retain"], list(sets.values())
    seconds: dict[str, float] = {}
    scorer = _timed("choose scorer", seconds, lambda: choose_scorer(base, forget.pairs[:4], config.lora))
    if not isinstance(scorer, PackedScorer):
        raise SystemExit("the packed scorer was not chosen")
    before = _timed("evaluation before", seconds, lambda: evaluate(base, scorer, measured, config.evaluation))
    ended: list[float] = []
    with preparations() as prepared:
        _timed("training", seconds, lambda: distil(base, forget, retain, config, lambda *_: ended.append(now())))
    after = _timed("evaluation after", seconds, lambda: evaluate(base, scorer, measured, config.evaluation))
    steps = [then - first - spent for first, then, spent in zip(ended, ended[1:], prepared[1:], strict=False)]
    return {
        "seconds": seconds,
        "preparation_seconds": sum(prepared),
        "step_seconds": spread(steps),
        "evaluation_share": (seconds["evaluation before"] + seconds["evaluation after"]) / seconds["training"],
        "forget_pairs": len(forget),
        "steps": len(ended),
        "forget_rouge_l": [_forget_rouge_l(metrics) for metrics in (before, after)],
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if base.device.type == "cuda" else 0.0,
    }


def _forget_rouge_l(metrics: Sequence[Metric]) -> float:
    return next(metric.value for metric in metrics if (metric.name, metric.split) == ("rouge_l", "forget"))


def _print(found: dict[str, Any]) -> None:
    table = Table("phase", "seconds")
    for name, value in found["seconds"].items():
        table.add_row(name, f"{value:.1f}")
        if name == "training":
            step = found["step_seconds"]
            preparation = f"  of it before the losses, {found['forget_pairs']} forget pairs"
            table.add_row(preparation, f"{found['preparation_seconds']:.1f}")
            table.add_row(
                f"  a step of {found['steps']}, median",
                f"{step['median']:.3f} ({step['min']:.3f}-{step['max']:.3f})",
            )
    table.add_row("evaluation / training", f"{found['evaluation_share']:.0%}")
    Console().print(table)
    print("forget ROUGE-L {:.2f} -> {:.2f}".format(*found["forget_rouge_l"]))
    print(f"peak of the accelerator's memory, whole job: {found['peak_gib']:.1f} GiB")


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_method(parser, DEFAULT)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--weights", default="full", choices=list(MOST_GIB))
    return parser.parse_args()


def name_of(arguments: argparse.Namespace) -> str:
    """The result's name."""
    return f"job_cost_{arguments.method}_{arguments.weights}" + ("_tiny" if arguments.tiny else "")


def _pairs_with_own_answers(base: BaseModel, name: str, images: int, shapes: Shapes) -> PairSet:
    """Pairs whose answers are the model's own."""
    asked = make_pairs(images, 5, shapes, seed=sum(map(ord, name)))
    said: list[list[int]] = []
    for start in range(0, len(asked), 10):
        said += generate(base, asked[start : start + 10], 35)
    answers = base.encoder.decode(said)
    pairs = (
        Pair(pair.image, pair.question, answer or pair.answer) for pair, answer in zip(asked, answers, strict=True)
    )
    return PairSet.of(name, pairs)


def _timed(name: str, seconds: dict[str, float], act: Callable[[], Result]) -> Result:
    started = now()
    result = act()
    seconds[name] = now() - started
    print(f"{name}: {seconds[name]:.1f} s", flush=True)
    return result


if __name__ == "__main__":
    main()
