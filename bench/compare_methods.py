"""Compares all methods on the demo model, each tuned within one budget and then attacked, beside the reference model.

    python -m bench.compare_methods [--resume] [--seeds 3] [--methods vgid,npo]

Writes bench/results/compare_methods.json after every run, then docs/comparison.png and the table in docs/comparison.md.
With --resume it adds to the JSON, and only further seeds and methods are run. Otherwise it replaces the JSON. It uses
one thread.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from rich.console import Console

from bench.parts.demo_models import SHIPPED
from bench.parts.machine import RESULTS, machine
from compare import figure, runner, table
from compare.contenders import all_contenders
from compare.plan import Budget, ComparisonData, ComparisonPlan
from compare.record import Record
from local.demo.data import encode, make
from local.demo.paths import BASE, REFERENCE_MODEL
from local.demo.people import Person
from local.demo.questions import FACTS, answer, ask
from local.demo.world import FORGOTTEN, the_world
from vgid_core.cli.log_setup import set_up_logs
from vgid_core.config import AttackPlan, UnlearnConfig
from vgid_core.data.facts import Fact
from vgid_core.data.pairs import Pair, PairSet

DOCS = Path(__file__).parent.parent / "docs"
BEGIN, END = "<!-- written by bench/compare_methods.py -->", "<!-- until here -->"
BUDGET = Budget(learning_rates=(1.5e-4, 5e-4, 1.5e-3, 3e-3, 6e-3, 1.2e-2), retain_weights=(1.0, 4.0), steps=(60,))


def main() -> None:
    """Makes the runs that are missing, then draws and prints the results."""
    arguments = _arguments()
    torch.set_num_threads(1)
    set_up_logs()
    plan = ComparisonPlan(
        methods=tuple(arguments.methods.split(",")),
        seeds=tuple(range(arguments.seeds)),
        budget=BUDGET,
        attacks=AttackPlan(pairs=40),
        config=_config(),
    )
    data, base, reference_model = demo_data(), str(BASE), str(REFERENCE_MODEL)
    terms = runner.conditions_of(plan, data, base, reference_model)
    environment = {**runner.environment(plan), "machine": machine()}
    results = RESULTS / "compare_methods.json"
    if not arguments.resume:
        results.unlink(missing_ok=True)
    record = Record.open(results, terms, environment, arguments.resume)
    runner.compare(plan, data, base, reference_model, record, _say)
    figure.draw(record, DOCS / "comparison.png")
    _put_into(DOCS / "comparison.md", table.markdown(record))
    Console(width=200).print(table.terminal(record))


def _config() -> UnlearnConfig:
    """The preset `paper`, with the demo's settings for the default method."""
    paper = UnlearnConfig.preset("paper", device="cpu", training={"steps": 60}, evaluation={"max_pairs": 60})
    return UnlearnConfig.model_validate({**paper.model_dump(), "method": SHIPPED.default["method"]})


def demo_data() -> ComparisonData:
    """The demo's sets, unseen faces for the membership attacks, and the fact in each forget pair."""
    demo = make()
    return ComparisonData(
        forget=demo.forget,
        retain=demo.retain,
        probes=(demo.held_out_photos, demo.rephrased),
        utility=(demo.retain_check, demo.utility),
        unseen=PairSet.of("unseen", [_about_unseen(p, f) for p in the_world().unseen_people for f in FACTS]),
        facts=tuple(_fact(pair) for pair in demo.forget),
    )


def _about_unseen(person: Person, fact: str) -> Pair:
    photo = encode(person.face, person.held_out_views[0])
    return Pair(photo, ask(fact, 0), answer(person, fact))


def _fact(pair: Pair) -> Fact:
    people = [the_world().people[number] for number in FORGOTTEN]
    return next(
        Fact(pair, getattr(person, fact)) for person in people for fact in FACTS if answer(person, fact) == pair.answer
    )


def _say(moment: runner.ComparisonProgress) -> None:
    if moment.share == 0:
        print(f"{moment.done}/{moment.total} {moment.what}", flush=True)


def _put_into(page: Path, text: str) -> None:
    """Replaces the text between the two marks in the page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", default=",".join(all_contenders()))
    return parser.parse_args()


if __name__ == "__main__":
    main()
