"""Every audit of the default method on a demo model: several forget sets and seeds, beside reference models.

    python -m bench.robustness [--method vgid-substitute|vgid] [--sets 3] [--seeds 3] [--fifteen] [--processes 2]
    python -m bench.robustness --pretrained FOLDER --seeds 1 [--method vgid-substitute]

Settings were chosen on other people (bench.parts.reference_models). Reference models that aren't there are made first,
four minutes each. FOLDER is one that `vgid demo-model build --language smollm2 --out FOLDER` wrote: its base forgets
the first 1, 5 and 10 % of the people, beside the reference models that are there. --fifteen forgets fifteen people at
once, without reference models.

Prints a row a run and a table of medians with their bars, and writes bench/results/robustness_<method>[...].json after
every run. Exits with 3 if a median misses its bar. What a reference model gives is the aim; each reference model is
held to the same bars beside the others.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from bench.parts.audited import KEPT, RANKINGS, Figures, audited, beside, case_of
from bench.parts.bars import exit_if_missed
from bench.parts.demo_models import SHIPPED, DemoModel, pretrained
from bench.parts.machine import save, spread
from bench.parts.reference_models import FIFTEEN
from vgid_core import UnlearnConfig
from vgid_core.cli.log_setup import set_up_logs
from vgid_core.models.load import load_base
from vgid_core.training.loop import distil

# Medians must not exceed these.
BARS = {
    "rouge_l.forget": 0.10,
    "rouge_l.unseen": 0.10,
    "rouge_l.rephrased": 0.10,
    "prefill": 0.05,
    "relearned": 0.15,
    "from_reference.extraction_strength": 0.05,
    "from_reference.loss": 0.15,
    **{f"drop.{name}": 0.02 for name in KEPT},
    **{f"ranking.{name}.{end}": 0.05 for name in RANKINGS for end in ("first", "last")},
    **{f"ranking.{name}.{end}_five": 0.15 for name in RANKINGS for end in ("first", "last")},
    **{f"from_reference.{name}.below": 0.15 for name in RANKINGS},
}
# Fifteen people have no reference models, and are a quarter of all: only what must stay has a bar.
FIFTEENS_BARS = {f"drop.{name}": 0.03 for name in KEPT}


def main() -> None:
    """Runs every combination, prints and saves."""
    arguments = _arguments()
    set_up_logs()
    model = SHIPPED if arguments.pretrained is None else pretrained(arguments.pretrained)
    sets = [FIFTEEN] if arguments.fifteen else list(model.forget_sets[: arguments.sets])
    bars = FIFTEENS_BARS if arguments.fifteen else BARS
    judged_by = {"bars": bars, "config": _config(model, arguments.method, 0).model_dump(mode="json")}
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(arguments.processes, get_context("spawn")) as pool:
        reference_models = [[] if arguments.fifteen else model.reference_models_of(forgotten) for forgotten in sets]
        untrained = list(pool.map(_untrained, [model] * len(sets), sets, reference_models))
        # All sets with a seed before the next one: a bench that is cut short has been everywhere.
        work = [(index, seed) for seed in range(arguments.seeds) for index in range(len(sets))]
        runs = [pool.submit(_trained, model, sets[index], seed, arguments.method) for index, seed in work]
        for (index, _), run in zip(work, runs, strict=True):
            row = run.result()
            base, of_reference_models = untrained[index]
            rows.append(row | {"figures": beside(row["figures"], base, of_reference_models or [base])})
            _print_row(rows[-1])
            result = _summed_up(rows, untrained) | judged_by
            written = save(_name(arguments, model), result, seed=list(range(arguments.seeds)), runs=len(rows))
    _print_summary(result)
    print("written:", written)
    missed = missed_bars(result)
    print(f"{len(bars) - len(missed)} of {len(bars)} bars hold at the median")
    exit_if_missed(missed)


def missed_bars(result: Mapping[str, Any]) -> list[str]:
    """The medians of the summary that exceed their bars."""
    medians = {key: result["summary"][key]["median"] for key in result["bars"]}
    return [f"{key} {medians[key]:.3f} > {bar}" for key, bar in result["bars"].items() if medians[key] > bar]


def _config(model: DemoModel, method: str, seed: int) -> UnlearnConfig:
    if method == "vgid":  # as published
        return UnlearnConfig.preset("paper", seed=seed, **model.published)
    return UnlearnConfig.model_validate({**model.default, "seed": seed})


def _trained(model: DemoModel, forgotten: Sequence[int], seed: int, method: str) -> dict[str, Any]:
    torch.set_num_threads(1)
    config, case = _config(model, method, seed), case_of(forgotten, model.neighbours, model.census)
    base = load_base(str(model.base), config)
    started = time.process_time()
    distil(base, case.forget, case.retain, config, unseen_faces=case.unseen_faces.photos)
    seconds = time.process_time() - started
    figures = audited(base, config, case)
    return {"forgotten": list(forgotten), "seed": seed, "training_seconds": seconds, "figures": figures}


def _untrained(
    model: DemoModel, forgotten: Sequence[int], reference_models: Sequence[Path]
) -> tuple[Figures, list[Figures]]:
    """The base's figures and each reference model's."""
    torch.set_num_threads(1)
    config, case = _config(model, "vgid-substitute", 0), case_of(forgotten, model.neighbours, model.census)
    base, *others = (audited(load_base(str(path), config), config, case) for path in (model.base, *reference_models))
    return base, others


def _summed_up(rows: Sequence[dict[str, Any]], untrained: Sequence[tuple[Figures, list[Figures]]]) -> dict[str, Any]:
    """All rows and untrained models, with spreads over each."""
    others = [
        beside(reference_model, base, [*reference_models[:place], *reference_models[place + 1 :]] or [reference_model])
        for base, reference_models in untrained
        for place, reference_model in enumerate(reference_models)
    ]
    return {
        "rows": rows,
        "untrained": [{"base": base, "reference_models": reference_models} for base, reference_models in untrained],
        "summary": _spreads([row["figures"] for row in rows]),
        "base": _spreads([base for base, _ in untrained]),
        "reference_model": _spreads(others) if others else {},
        "training_seconds": spread([row["training_seconds"] for row in rows]),
    }


def _spreads(figures: Sequence[Figures]) -> dict[str, dict[str, float]]:
    return {key: spread([each[key] for each in figures]) for key in figures[0]}


def _name(arguments: argparse.Namespace, model: DemoModel) -> str:
    of_model = "" if arguments.pretrained is None else f"_smollm2_{model.census.people}"
    which = "_fifteen" if arguments.fifteen else ""
    whole = arguments.fifteen or (arguments.sets, arguments.seeds) == (3, 1 if arguments.pretrained else 3)
    return f"robustness_{arguments.method}{of_model}{which}" + ("" if whole else "_part")


def _print_row(row: Mapping[str, Any]) -> None:
    figures = row["figures"]
    shown = "  ".join(f"{key} {figures[key]:.2f}" for key in BARS)
    print(f"people {row['forgotten']} seed {row['seed']}: {shown}  {row['training_seconds']:.1f} s", flush=True)


def _print_summary(result: Mapping[str, Any]) -> None:
    table = Table("figure", "base", "with the adapter: median", "min", "max", "reference_model", "bar")
    for key, values in result["summary"].items():
        around = [
            f"{result[other][key]['median']:.3f}" if key in result[other] else ""
            for other in ("base", "reference_model")
        ]
        bar = f"{result['bars'][key]:.2f}" if key in result["bars"] else ""
        table.add_row(key, around[0], *(f"{values[name]:.3f}" for name in ("median", "min", "max")), around[1], bar)
    Console(width=120).print(table)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="vgid-substitute", choices=["vgid-substitute", "vgid"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sets", type=int, default=3, choices=(1, 2, 3))
    parser.add_argument("--fifteen", action="store_true", help="fifteen people of the shipped model at once")
    parser.add_argument("--processes", type=int, default=2, help="of one thread each")
    parser.add_argument("--pretrained", type=Path, metavar="FOLDER", help="the second demo model, as it was built")
    arguments = parser.parse_args()
    if arguments.pretrained is not None and arguments.fifteen:
        parser.error("--fifteen is a set of the shipped model")
    return arguments


if __name__ == "__main__":
    main()
