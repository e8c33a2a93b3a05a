"""What a whole job costs at LLaVA-1.5-7B's shapes, by phase: evaluation before and after against training.

    python -m bench.job_cost [--tiny] [--weights full|nf4]

6 people with 5 questions each to forget, two probes of the same size, 150 retain and 150 utility pairs, the default 60
steps of 16 + 16 pairs. The expected answers are what the model says itself, as they are of a model that knows the
people; after the training, the forget answers are others and must be generated. Exits 1 on an accelerator when
evaluation takes more than 30 % of the training's time, or the job more than 40 GiB (24 with NF4 weights).
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import torch
from rich.console import Console
from rich.table import Table

from bench.llava_shapes import INSTRUCTION, TINY, Shapes, build_base, make_pairs, quantize_to_nf4, words
from bench.machine import save
from vgid_core import Pair, PairSet, UnlearnConfig
from vgid_core.base_model import BaseModel
from vgid_core.distil import distil
from vgid_core.evaluate import evaluate
from vgid_core.packed_path import PackedPath
from vgid_core.paths import choose_path
from vgid_core.plain_path import generate

MOST_SHARE = 0.30
MOST_GIB = {"full": 40.0, "nf4": 24.0}
Result = TypeVar("Result")


def main() -> None:
    """Runs one job and prints the seconds of its phases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--weights", default="full", choices=list(MOST_GIB))
    arguments = parser.parse_args()
    shapes = TINY if arguments.tiny else Shapes()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    base = build_base(shapes, device, torch.bfloat16 if device.type == "cuda" else torch.float32)
    if arguments.weights == "nf4":
        quantize_to_nf4(base)
    config = UnlearnConfig.model_validate(
        {
            "preset": "paper",
            "training": {"steps": 60},
            "method": {"instruction": words(INSTRUCTION, random.Random(1), shapes.vocabulary)},
            "evaluation": {"max_new_tokens": 36},
        }
    )
    counts = {"forget": 6, "held_out": 6, "rephrased": 6, "retain": 30, "utility": 30}
    sets = [_in_its_own_words(base, name, images, shapes) for name, images in counts.items()]
    seconds: dict[str, float] = {}
    path = _timed("choose path", seconds, lambda: choose_path(base, sets[0].pairs[:4], config.lora))
    if not isinstance(path, PackedPath):
        raise SystemExit("the packed path was not chosen")
    before = _timed("evaluation before", seconds, lambda: evaluate(base, path, sets, config.evaluation))
    _timed("training", seconds, lambda: distil(base, sets[0], sets[3], config))
    after = _timed("evaluation after", seconds, lambda: evaluate(base, path, sets, config.evaluation))
    share = (seconds["evaluation before"] + seconds["evaluation after"]) / seconds["training"]
    table = Table("phase", "seconds")
    for name, value in seconds.items():
        table.add_row(name, f"{value:.1f}")
    table.add_row("evaluation / training", f"{share:.0%}")
    Console().print(table)
    forget = [metric.value for metric in (before[0], after[0])]
    print(f"forget ROUGE-L {forget[0]:.2f} -> {forget[1]:.2f}")
    peak = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0
    print(f"peak of the accelerator's memory, whole job: {peak:.1f} GiB")
    name = f"job_cost_{arguments.weights}" + ("_tiny" if arguments.tiny else "")
    found = {"seconds": seconds, "evaluation_share": share, "forget_rouge_l": forget, "peak_gib": peak}
    print("written:", save(name, {"arguments": vars(arguments), **found}))
    if device.type == "cuda" and not arguments.tiny and (share > MOST_SHARE or peak > MOST_GIB[arguments.weights]):
        sys.exit(f"missed: evaluation at most {MOST_SHARE:.0%} of training, at most {MOST_GIB[arguments.weights]} GiB")


def _in_its_own_words(base: BaseModel, name: str, images: int, shapes: Shapes) -> PairSet:
    """Pairs whose answers are what the model says."""
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
    started = time.perf_counter()
    result = act()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    seconds[name] = time.perf_counter() - started
    print(f"{name}: {seconds[name]:.1f} s", flush=True)
    return result


if __name__ == "__main__":
    main()
