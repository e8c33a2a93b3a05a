"""Times one round of evaluation of the demo's model: packed scoring against generation row by row.

    python -m bench.evaluation_time [--runs 3]

Both take turns on the same sets (at most 150 pairs of each), on one core. They run before forgetting, when nearly every
answer is the expected one, and after it, when the forgotten answers must be generated. Writes
bench/results/evaluation_time.json, and exits with 3 if the two give different answers.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from bench.parts.bars import exit_if_missed
from bench.parts.machine import save, spread
from local.demo.data import make
from local.demo.paths import BASE
from vgid_core import PairSet, UnlearnConfig
from vgid_core.cli.log_setup import set_up_logs
from vgid_core.models.load import load_base
from vgid_core.scoring.packed.scorer import PackedScorer
from vgid_core.scoring.padded import PaddedScorer
from vgid_core.scoring.scorer import ScoredAnswer, Scorer
from vgid_core.training.loop import distil


def main() -> None:
    """Times both ways before and after, and compares what they found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    torch.set_num_threads(1)
    set_up_logs()
    config = UnlearnConfig.preset("paper", device="cpu", training={"steps": 60, "learning_rate": 3e-3})
    base, data = load_base(str(BASE), config), make()
    sets = [
        items.sample(config.evaluation.max_pairs)
        for items in (data.forget, data.retain, data.utility, data.held_out_photos, data.rephrased, data.retain_check)
    ]
    paths: dict[str, Scorer] = {"row by row": PaddedScorer(base), "packed": PackedScorer(base)}
    figures: dict[str, Any] = {}
    for stage in ("before", "after"):
        seconds: dict[str, list[float]] = {name: [] for name in paths}
        for _ in range(runs):
            if stage == "before":
                base.features.clear()  # a job computes the image features in its first round only
            found = {name: _score(scorer, sets, config, seconds[name]) for name, scorer in paths.items()}
        figures[stage] = {name: spread(values) for name, values in seconds.items()}
        figures[stage] |= _agreement(*found.values())
        print(stage, figures[stage], flush=True)
        if stage == "before":
            distil(base, data.forget, data.retain, config)
    table = Table("forgetting", "row by row, s", "packed, s", "answers", "the same")
    for stage, row in figures.items():
        times = [f"{row[name]['median']:.2f} ({row[name]['min']:.2f}-{row[name]['max']:.2f})" for name in paths]
        table.add_row(stage, *times, str(row["answers"]), str(row["same"]))
    Console().print(table)
    print("written:", save("evaluation_time", {"figures": figures}, seed=config.seed, runs=runs))
    differ = [stage for stage, row in figures.items() if row["same"] != row["answers"]]
    exit_if_missed([f"some answers differ {stage} forgetting" for stage in differ])


def _score(scorer: Scorer, sets: list[PairSet], config: UnlearnConfig, seconds: list[float]) -> list[ScoredAnswer]:
    """Scores all sets and appends the processor seconds to `seconds`."""
    started = time.process_time()
    found = [answer for items in sets for answer in scorer.score_answers(items.pairs, config.evaluation)]
    seconds.append(time.process_time() - started)
    return found


def _agreement(plain: list[ScoredAnswer], packed: list[ScoredAnswer]) -> dict[str, Any]:
    pairs = list(zip(plain, packed, strict=True))
    differences = (float((a.log_probabilities - b.log_probabilities).abs().max()) for a, b in pairs)
    return {
        "answers": len(pairs),
        "same": sum(a.generated_ids == b.generated_ids for a, b in pairs),
        "largest_log_probability_difference": max(differences),
    }


if __name__ == "__main__":
    main()
