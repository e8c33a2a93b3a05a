"""Measures what a method forgets and keeps on the demo model, over several forget sets and seeds.


    python -m bench.forgetting [--method vgid|vgid-substitute] [--seeds 3] [--sets 3] [--precision full|fp8|nf4]
    [--steps N]

The default method is VGID as published, and the bars are its bars. vgid-substitute has none here; its own are in
bench.robustness. Prints a row per run, then medians and spread, and exits with 3 if a median misses its bar. Writes
bench/results/forgetting[_<method>][_<precision>].json, with _part in the name unless all three sets and seeds ran. It
uses one thread, so training seconds are those of one core. A CPU emulates fp8 and NF4, so time has no bar there.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from bench.parts.bars import exit_if_missed
from bench.parts.machine import save, spread
from bench.parts.methods import PUBLISHED, add_method, demo_settings, preparations
from bench.parts.reference_models import FORGET_SETS
from local.demo.data import DemoData, make
from local.demo.paths import BASE, REFERENCE_MODEL
from vgid_core import Metric, UnlearnConfig, UnlearnSpec, unlearn
from vgid_core.cli.log_setup import set_up_logs
from vgid_core.evaluation.evaluate import evaluate
from vgid_core.models.load import load_base
from vgid_core.scoring.padded import PaddedScorer

# A median may not exceed its bar.
BARS = {
    "forget.rouge_l.after": 0.06,
    "held_out_photos.rouge_l.after": 0.06,
    "rephrased.rouge_l.after": 0.06,
    "retain.drop": 0.02,
    "retain_check.drop": 0.02,
    "utility.drop": 0.03,
    "training_seconds": 20.0,
}
SPLITS = ("forget", "held_out_photos", "rephrased", "retain", "retain_check", "utility")


def main() -> None:
    """Runs every combination, prints and saves."""
    arguments = _arguments()
    torch.set_num_threads(1)
    set_up_logs()
    rows = []
    for forgotten in FORGET_SETS[: arguments.sets]:
        data = make(list(forgotten))
        for seed in range(arguments.seeds):
            rows.append(_run(data, list(forgotten), seed, arguments))
            _print_row(rows[-1])
    summary = {key: spread([row[key] for row in rows]) for key in rows[0] if isinstance(rows[0][key], float)}
    reference_model = _reference_model(make())
    config = _config(0, arguments).model_dump()
    _print_summary(summary, reference_model)
    bars = _bars(arguments)
    missed = [
        f"{key} {summary[key]['median']:.3f} > {bar}" for key, bar in bars.items() if summary[key]["median"] > bar
    ]
    name = _name(arguments)
    figures = {"config": config, "rows": rows, "summary": summary, "reference_model": reference_model, "bars": bars}
    print("written:", save(name, figures, seed=list(range(arguments.seeds)), runs=len(rows)))
    exit_if_missed(missed)
    print("every median is within its bar" if bars else "no bars: these are of VGID as published")


def _bars(arguments: argparse.Namespace) -> dict[str, float]:
    if arguments.method != PUBLISHED:
        return {}
    return {key: bar for key, bar in BARS.items() if arguments.precision == "full" or key != "training_seconds"}


def _name(arguments: argparse.Namespace) -> str:
    parts = ["forgetting"]
    parts += [arguments.method] if arguments.method != PUBLISHED else []
    parts += [arguments.precision] if arguments.precision != "full" else []
    changed = (arguments.steps, arguments.learning_rate, arguments.retain_weight) != (None, None, None)
    whole = (arguments.sets, arguments.seeds, arguments.model) == (3, 3, BASE) and not changed
    return "_".join(parts if whole else [*parts, "part"])


def _run(data: DemoData, forgotten: list[int], seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    config = _config(seed, arguments)
    with tempfile.TemporaryDirectory() as folder, preparations() as prepared:
        spec = UnlearnSpec(
            model=str(arguments.model),
            model_name="demo",
            forget=data.forget,
            retain=data.retain,
            utility=data.utility,
            probes=_probes(data),
            out=Path(folder) / "out",
            config=config,
        )
        result = unlearn(spec)
    row: dict[str, Any] = {"forgotten": forgotten, "seed": seed}
    for stage, metrics in (("before", result.metrics_before), ("after", result.metrics_after)):
        row |= {f"{metric.split}.{metric.name}.{stage}": metric.value for metric in metrics}
    for split in ("retain", "retain_check", "utility"):
        row[f"{split}.drop"] = row[f"{split}.rouge_l.before"] - row[f"{split}.rouge_l.after"]
    row["training_seconds"] = result.manifest["seconds"]["distilling"]
    row["preparation_seconds"] = sum(prepared)  # part of the training: asking the teachers, once a forget pair
    row["job_seconds"] = sum(result.manifest["seconds"].values())
    return row


def _reference_model(data: DemoData) -> dict[str, float]:
    """The figures of the reference model, which has never met the forgotten people."""
    config = UnlearnConfig(device="cpu")
    base = load_base(str(REFERENCE_MODEL), config)
    sets = [data.forget, data.retain, data.utility, *_probes(data).values()]
    metrics: list[Metric] = evaluate(base, PaddedScorer(base), sets, config.evaluation)
    return {f"{metric.split}.{metric.name}": metric.value for metric in metrics}


def _probes(data: DemoData) -> Mapping[str, Any]:
    return {name: getattr(data, name) for name in ("held_out_photos", "rephrased", "retain_check")}


def _config(seed: int, arguments: argparse.Namespace) -> UnlearnConfig:
    training = {
        "steps": arguments.steps,
        "learning_rate": arguments.learning_rate,
        "retain_weight": arguments.retain_weight,
    }
    given = {name: value for name, value in training.items() if value is not None}
    given["fp8"] = arguments.precision == "fp8"
    weights = "nf4" if arguments.precision == "nf4" else "full"
    return demo_settings(arguments.method, seed=seed, base_weights=weights, training=given)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_method(parser, PUBLISHED)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sets", type=int, default=3, choices=range(1, len(FORGET_SETS) + 1))
    parser.add_argument("--precision", default="full", choices=["full", "fp8", "nf4"])
    parser.add_argument("--steps", type=int)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--retain-weight", type=float)
    parser.add_argument("--model", type=Path, default=BASE)
    return parser.parse_args()


def _print_row(row: Mapping[str, Any]) -> None:
    figures = "  ".join(
        f"{split} {row[f'{split}.rouge_l.before']:.3f}→{row[f'{split}.rouge_l.after']:.3f}" for split in SPLITS
    )
    print(f"people {row['forgotten']} seed {row['seed']}: {figures}  {row['training_seconds']:.1f} s", flush=True)


def _print_summary(summary: Mapping[str, Mapping[str, float]], reference_model: Mapping[str, float]) -> None:
    table = Table("figure", "median", "min", "max", "reference model")
    for key, values in summary.items():
        gold = reference_model.get(key.removesuffix(".after"))
        beside = f"{gold:.3f}" if gold is not None and key.endswith(".after") else ""
        table.add_row(key, *(f"{values[name]:.3f}" for name in ("median", "min", "max")), beside)
    Console().print(table)


if __name__ == "__main__":
    main()
