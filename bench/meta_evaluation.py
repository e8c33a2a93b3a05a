"""Do the audits tell the truth? Each is asked about models that know, only seem to have forgotten, or never knew.

    python -m bench.meta_evaluation [--sets 3] [--processes 2] [--tuning]

Every model of `bench.parts.model_pool` is audited at the level `standard`, and at `quick` twice again: after an
attacker's training on other people, and with its weights rounded to 4 bits. Of each figure: how well it tells models
that know from reference models, and how little it moves under both. Of the verdict: what passes that knows or is
broken, and which reference models fail, also for each person alone. A model knows if its answers, prefilled answers, or
facts after 100 steps on the others give away a tenth more than any reference model's; it is broken if it loses a fifth
of what it said of others.

--tuning: on people 0 to 5 and the shipped reference model, by which the default targets were chosen. Without it, on
others. Writes bench/results/meta_evaluation[_tuning].json, and exits with 3 if a bar is missed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from statistics import fmean
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from bench.parts.audited import Case, auditor_of, case_of
from bench.parts.bars import exit_if_missed
from bench.parts.demo_models import SHIPPED
from bench.parts.machine import save
from bench.parts.meta_figures import BARS, audit_rows, missed_bars, summed_up
from bench.parts.model_pool import PooledModel, pool
from local.demo.paths import REFERENCE_MODEL
from local.demo.world import FORGOTTEN
from vgid_core import PairSet, UnlearnConfig
from vgid_core.cli.log_setup import set_up_logs
from vgid_core.data.facts import fact_of
from vgid_core.data.sampling import even_sample
from vgid_core.evaluation.audits.served_precision import round_weights
from vgid_core.evaluation.evidence import Auditor, Measured
from vgid_core.evaluation.measures.relearning import fine_tuned, merged_copy, relearned, split_facts
from vgid_core.models.base import BaseModel
from vgid_core.models.load import load_base
from vgid_core.scoring.choose import choose_scorer, probe_pairs
from vgid_core.training.loop import distil

_MEASURED = ("forget", "unseen", "rephrased", "retain", "retain_check", "visual", "neighbours")
_ATTACKERS_STEPS = 20
_SINGLE = ("reference_model", "default")  # kinds that are audited person by person, too


def main() -> None:
    """Trains and audits every model, prints and saves."""
    arguments = _arguments()
    set_up_logs()
    sets = [FORGOTTEN] if arguments.tuning else list(SHIPPED.forget_sets[: arguments.sets])
    name = "meta_evaluation" + ("_tuning" if arguments.tuning else "")
    rows: list[dict[str, Any]] = []
    started = time.monotonic()
    with ProcessPoolExecutor(arguments.processes, get_context("spawn")) as workers:
        for forgotten in sets:
            reference_models = [REFERENCE_MODEL] if arguments.tuning else SHIPPED.reference_models_of(forgotten)
            for row in workers.map(_audited, pool(forgotten, reference_models)):
                rows.append(row)
                verdict = row["evidence"]["verdict"]["outcome"]
                print(
                    f"{time.monotonic() - started:5.0f} s  {row['title']:24} {row['forgotten']}  {verdict}", flush=True
                )
            # After each set, so that a bench that is cut short has whole sets.
            result = summed_up(rows)
            models = [_in_short(row) for row in rows]
            written = save(name, {**result, "bars": BARS, "models": models}, seed=0, runs=len(rows))
    _print(result)
    print("written:", written)
    exit_if_missed(missed_bars(result))


def _audited(model: PooledModel) -> dict[str, Any]:
    """One model's evidence: as it is, after an attacker's training, in 4 bits; and of each person, for some kinds."""
    torch.set_num_threads(1)
    case = case_of(model.forgotten, SHIPPED.neighbours, SHIPPED.census)
    config = UnlearnConfig.model_validate({**SHIPPED.default, "evaluation": {"audits": "standard"}})
    before = _base_figures(case, config)
    base = load_base(str(model.checkpoint), config)
    started = time.process_time()
    if model.config is not None:
        distil(base, case.forget, case.retain, model.config, unseen_faces=case.unseen_faces.photos)
    trained = time.process_time() - started
    auditor = auditor_of(case, config, _MEASURED)
    quick = _of_the_forgotten(_quick(auditor))
    row = {
        "title": model.title,
        "kind": model.kind,
        "forgotten": list(model.forgotten),
        "training_seconds": trained,
        "evidence": _evidence(base, auditor, before),
        "relearned_in_100": _relearned(base, case),
        "after_training": _evidence(_trained_on_others(base, case), quick, before),
        "in_4_bits": _evidence(_in_4_bits(base), quick, before),
    }
    if model.kind in _SINGLE:
        row["persons"] = [_evidence(base, _about(auditor, person), before)["verdict"] for person in _people(case)]
    return row


def _in_short(row: Mapping[str, Any]) -> dict[str, Any]:
    """A model's row as it is saved: figures by name and set, and the outcome."""
    evidence = row["evidence"]
    figures = {f"{each['figure']} {each['set']}": round(each["value"], 4) for each in evidence["figures"]}
    kept = ("title", "kind", "forgotten", "training_seconds", "relearned_in_100")
    return {name: row[name] for name in kept} | {"outcome": evidence["verdict"]["outcome"], "figures": figures}


def _evidence(base: BaseModel, auditor: Auditor, before: Measured) -> dict[str, Any]:
    scorer = choose_scorer(base, probe_pairs(auditor.measured), auditor.config.lora)
    evidence = auditor.evidence(auditor.after(base, scorer, before))
    assert evidence is not None
    return evidence.as_json()


def _base_figures(case: Case, config: UnlearnConfig) -> Measured:
    base, auditor = load_base(str(SHIPPED.base), config), auditor_of(case, config, _MEASURED)
    return _quick(auditor).before(base, choose_scorer(base, probe_pairs(auditor.measured), config.lora))


def _quick(auditor: Auditor) -> Auditor:
    return replace(auditor, config=auditor.config.with_audits("quick"))


def _of_the_forgotten(auditor: Auditor) -> Auditor:
    """The same without the sets about others, whose answers take the most time."""
    names = ("forget", "unseen")
    return replace(auditor, measured=[items for items in auditor.measured if items.name in names])


def _relearned(base: BaseModel, case: Case) -> float:
    """The share of half of the facts that comes back after 100 steps on the other half."""
    taught, held_out = split_facts([fact_of(pair) for pair in case.forget])
    return fmean(relearned(base, taught, even_sample(held_out, 60), 100, seed=1))


def _about(auditor: Auditor, person: str) -> Auditor:
    """The same about one of the forgotten alone, as if nobody else had asked; the others count as nobody's."""

    def only(items: PairSet) -> PairSet:
        kept = tuple(pair for pair in items if pair.person == person)
        return PairSet(items.name, kept) if items.name in ("forget", "held_out_photos", "rephrased") else items

    sets = replace(auditor.sets, forget=only(auditor.sets.forget))
    return replace(auditor, sets=sets, measured=[only(items) for items in auditor.measured])


def _people(case: Case) -> Iterator[str]:
    yield from dict.fromkeys(pair.person for pair in case.forget if pair.person is not None)


def _trained_on_others(base: BaseModel, case: Case) -> BaseModel:
    return fine_tuned(base, even_sample(case.retain.pairs, 240), _ATTACKERS_STEPS, seed=1)


def _in_4_bits(base: BaseModel) -> BaseModel:
    copied = merged_copy(base)
    round_weights(copied.model.get_decoder(), 4)
    return copied


def _print(result: Mapping[str, Any]) -> None:
    console = Console(highlight=False, width=110)
    table = Table(title="tells models that know from reference models (AUC); moves by so much")
    for title in ("figure", "AUC", "after training", "in 4 bits", "after training, moved", "in 4 bits, moved"):
        table.add_column(title, justify="left" if title == "figure" else "right")
    for row in audit_rows(result):
        table.add_row(*row)
    console.print(table)
    for name, value in result["verdict"].items():
        console.print(f"{name}: {value}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--tuning", action="store_true", help="on the people by whom targets were chosen")
    return parser.parse_args()


if __name__ == "__main__":
    main()
