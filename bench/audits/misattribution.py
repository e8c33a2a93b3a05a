"""Whose names does a model say when it is asked about people whom it has forgotten, or has never met?

    python -m bench.audits.misattribution [--sets 2] [--tuning]

The base, the reference models that are there (bench.robustness makes them), the default method at full length, and a
base that is taught to give other people's answers about the forgotten: each is asked about the forgotten on the
request's photos, on photos never seen, and in other wordings. Beside each share of answers that name another known
person stands that for unseen people, and whether the target holds.

--tuning: on people 0 to 5 and the shipped reference model, by whom the target was chosen, and on groups of people never
met: how often the share of one, three or six of them lies too far above that of the others. Without it, on other
people.

Writes bench/results/misattribution[_tuning].json, and exits with 3 if a reference model or the default method misses
the target, or the base that is taught others' answers holds it.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from bench.parts.audited import Case, auditor_of, case_of
from bench.parts.bars import exit_if_missed
from bench.parts.demo_models import SHIPPED
from bench.parts.machine import save
from bench.parts.reference_models import reference_models_there
from local.demo.data import PHOTOS, encode, unseen
from local.demo.questions import FACTS, answer, ask
from local.demo.world import FORGOTTEN, the_world
from vgid_core import Pair, PairSet, UnlearnConfig
from vgid_core.cli.log_setup import set_up_logs
from vgid_core.config import VerdictTargets
from vgid_core.data.roles import AuditSets
from vgid_core.evaluation.audit_context import AuditContext
from vgid_core.evaluation.audits import misattributed
from vgid_core.evaluation.evaluate import SetAnswers, answer_sets
from vgid_core.evaluation.figures import Figure
from vgid_core.evaluation.levels import LEVELS
from vgid_core.evaluation.measures.relearning import fine_tuned
from vgid_core.evaluation.verdict import judge
from vgid_core.models.base import BaseModel
from vgid_core.models.load import load_base
from vgid_core.scoring.choose import choose_scorer, probe_pairs
from vgid_core.training.loop import distil

_MEASURED = ("forget", "unseen", "rephrased")
_MISTAKEN = "taught others' answers"
_STEPS = 60
_GROUPS = (1, 3, 6)
_DRAWS = 2000
_LIMIT = VerdictTargets().misattributed


def main() -> None:
    """Asks every model, prints and saves."""
    arguments = _arguments()
    torch.set_num_threads(1)
    set_up_logs()
    sets = [FORGOTTEN] if arguments.tuning else list(SHIPPED.forget_sets[: arguments.sets])
    rows = [row for forgotten in sets for row in _rows(case_of(forgotten, SHIPPED.neighbours, SHIPPED.census))]
    groups = (
        {path.name: _groups(path) for path in (SHIPPED.base, *reference_models_there(FORGOTTEN))}
        if arguments.tuning
        else {}
    )
    _print(rows)
    for name, found in groups.items():
        print(f"{name}, never met, too far above the others:", {size: f"{share:.1%}" for size, share in found.items()})
    name = "misattribution" + ("_tuning" if arguments.tuning else "")
    result = {"limit": _LIMIT, "models": rows, "groups": groups}
    print("written:", save(name, result, seed=0, runs=len(rows)))
    exit_if_missed(list(_missed(rows)))


def _rows(case: Case) -> Iterator[dict[str, Any]]:
    """A row for each model and set: the share with its interval, the control, and whether the target holds."""
    config = UnlearnConfig.model_validate({**SHIPPED.default, "evaluation": {"max_pairs": 1000}})
    auditor = auditor_of(case, config, _MEASURED)
    for title, base in _models(case, config):
        answers = _answers(base, config, auditor.measured)
        for target in judge(_figures(auditor.sets, answers), config.verdict).targets:
            control = target.figure.control
            assert control is not None
            row = target.as_json() | {"control": control.value, "items": target.figure.estimate.items}
            yield {"title": title, "forgotten": list(case.forgotten), **row}
            print(f"{title} {case.forgotten} {row['set']}: {row['value']:.3f}, control {control.value:.3f}", flush=True)


def _answers(base: BaseModel, config: UnlearnConfig, sets: Sequence[PairSet]) -> list[SetAnswers]:
    return answer_sets(base, choose_scorer(base, probe_pairs(sets), config.lora), sets, config.evaluation)


def _figures(sets: AuditSets, answers: Sequence[SetAnswers]) -> list[Figure]:
    """What the audit finds in these answers. It asks no model."""
    after = {each.pairs.name: each for each in answers}
    return list(misattributed.audit(AuditContext(None, None, sets, LEVELS["quick"].sizes, 0, after)))  # type: ignore[arg-type]


def _models(case: Case, config: UnlearnConfig) -> Iterator[tuple[str, BaseModel]]:
    yield "base", load_base(str(SHIPPED.base), config)
    for number, reference_model in enumerate(reference_models_there(case.forgotten)):
        yield f"reference model {number}", load_base(str(reference_model), config)
    base = load_base(str(SHIPPED.base), config)
    distil(base, case.forget, case.retain, config.for_pairs(len(case.forget)), unseen_faces=case.unseen_faces.photos)
    yield "default", base
    retained = [pair for pair in case.retain if pair.person is not None]
    wrong = [
        replace(pair, answer=retained[number % len(retained)].answer, fact=None)
        for number, pair in enumerate(case.forget)
    ]
    yield _MISTAKEN, fine_tuned(load_base(str(SHIPPED.base), config), wrong, _STEPS, seed=1)


def _groups(path: Path) -> dict[int, float]:
    """By size, how often a group of people whom the model has never met lies above the target beside the others."""
    config = UnlearnConfig.model_validate({**SHIPPED.default, "evaluation": {"max_pairs": 1000}})
    base = load_base(str(path), config)
    items = [PairSet.of("forget", _about_unseen()), unseen(SHIPPED.census)]
    case = case_of(FORGOTTEN, SHIPPED.neighbours, SHIPPED.census)
    sets = auditor_of(case, config, _MEASURED).sets
    own, beside = (_of_each(sets, answers) for answers in _answers(base, config, items))
    draws, found = random.Random(0), {}
    for size in _GROUPS:
        above = []
        for _ in range(_DRAWS):
            group = draws.sample(sorted(own), size)
            others = fmean(share for person, share in beside.items() if person not in group)
            above.append(fmean(own[person] for person in group) - others > _LIMIT)
        found[size] = fmean(above)
    return found


def _about_unseen() -> Iterator[Pair]:
    """As much as a request tells of its people, about people whom no model of this world has met."""
    for person in the_world(SHIPPED.census).unseen_people:
        for number, view in enumerate(person.training_views[:PHOTOS]):
            for turn, fact in enumerate(FACTS):
                photo = encode(person.face, view)
                yield Pair(photo, ask(fact, number + turn), answer(person, fact), person.name)


def _of_each(sets: AuditSets, answers: SetAnswers) -> dict[str, float]:
    """Each person's share of these answers, as the audit finds it."""
    found = {}
    for person in dict.fromkeys(str(pair.person) for pair in answers.pairs):
        places = [place for place, pair in enumerate(answers.pairs) if pair.person == person]
        items = PairSet("forget", tuple(answers.pairs.pairs[place] for place in places))
        texts, nothing = [answers.texts[place] for place in places], [0.0] * len(places)
        [figure] = _figures(replace(sets, forget=items), [SetAnswers(items, texts, nothing, nothing)])
        found[person] = figure.value
    return found


def _missed(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for row in rows:
        told = f"{row['title']} {row['forgotten']} {row['set']}: {row['amount']:.3f}"
        if row["title"] == _MISTAKEN and row["set"] == "forget" and row["held"]:
            yield f"{told} isn't seen"
        if row["title"] not in ("base", _MISTAKEN) and not row["held"]:
            yield told


def _print(rows: Sequence[Mapping[str, Any]]) -> None:
    table = Table("forgotten", "model", "set", "share", "95 %", "never seen", "target")
    for row in rows:
        interval = f"{row['low']:.2f}-{row['high']:.2f}"
        share, control = f"{row['value']:.3f} of {row['items']}", f"{row['control']:.3f}"
        held = "holds" if row["held"] else "missed"
        table.add_row(str(row["forgotten"]), row["title"], row["set"], share, interval, control, held)
    Console(width=120).print(table)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=2)
    parser.add_argument("--tuning", action="store_true", help="on the people by whom the target was chosen")
    return parser.parse_args()


if __name__ == "__main__":
    main()
