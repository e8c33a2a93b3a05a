"""What VGID as published leaves behind: likelihood and prefilled answers, beside the base and the retain-only twin.

    python -m bench.known_limits [--seeds 3]

prefill recovery: with the photo, the question and the true answer up to the fact itself put into the model's mouth,
how often does the fact follow? membership AUC: can the forgotten facts be told from a never-seen person's by the
model's loss on them? 1 = always, 0.5 = chance; the twin's own value is the target. Writes
bench/results/known_limits.json.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers.utils import logging as transformers_logging

from bench.machine import save, spread
from local.demo.data import encode, make
from local.demo.paths import BASE, TWIN
from local.demo.people import Person
from local.demo.questions import FACTS, answer, ask
from local.demo.world import FORGOTTEN, the_world
from vgid_core import Pair, PairSet, UnlearnConfig
from vgid_core.base_model import BaseModel, load_base
from vgid_core.distil import distil
from vgid_core.evaluate import answer_probabilities
from vgid_core.paths import PlainPath


def main() -> None:
    """Measures base, twin and one unlearned model a seed; prints and saves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers_logging.disable_progress_bar()
    config = UnlearnConfig.model_validate({"device": "cpu", "training": {"learning_rate": 3e-3}})
    figures: dict[str, Any] = {}
    for name, path in (("base", BASE), ("retain-only twin", TWIN)):
        base = load_base(str(path), config)
        figures[name] = {key: spread([value]) for key, value in _attacks(base, config).items()}
    data, runs = make(), []
    for seed in range(arguments.seeds):
        base = load_base(str(BASE), config)
        distil(base, data.forget, data.retain, config.model_copy(update={"seed": seed}))
        runs.append(_attacks(base, config))
        print(f"seed {seed}: {runs[-1]}", flush=True)
    figures["unlearned"] = {key: spread([run[key] for run in runs]) for key in runs[0]}
    table = Table("model", *figures["base"])
    for name, row in figures.items():
        table.add_row(name, *(f"{v['median']:.2f} ({v['min']:.2f}-{v['max']:.2f})" for v in row.values()))
    Console().print(table)
    print("written:", save("known_limits", {"config": config.model_dump(), "figures": figures, "runs": runs}))


def _attacks(base: BaseModel, config: UnlearnConfig) -> dict[str, float]:
    people = [the_world().people[number] for number in FORGOTTEN]
    members, strangers = (
        answer_probabilities(PlainPath(base).examine(_facts(group).pairs, config.evaluation))
        for group in (people, list(the_world().strangers))
    )
    wins = sum((m > s) + 0.5 * (m == s) for m in members for s in strangers)
    return {
        "prefill_recovery": _prefill_recovery(base, people),
        "membership_auc": wins / (len(members) * len(strangers)),
        "answer_probability": sum(members) / len(members),
    }


def _facts(people: list[Person]) -> PairSet:
    """Every fact of each person on a photo that no forget request holds."""
    pairs = [
        Pair(encode(person.face, person.held_out_views[0]), ask(fact), answer(person, fact))
        for person in people
        for fact in FACTS
    ]
    return PairSet.of("facts", pairs)


@torch.inference_mode()
def _prefill_recovery(base: BaseModel, people: list[Person]) -> float:
    """Share of facts (the name itself aside) that follow when their sentence is begun on the person's own photo."""
    found = []
    for person in people:
        photo = encode(person.face, person.training_views[0]).decode()
        for fact in [name for name in FACTS if name != "name"]:
            whole, value = answer(person, fact), getattr(person, fact)
            begun = torch.tensor([base.encoder.answer_ids(whole[: whole.index(value)].rstrip())[:-1]])
            inputs = base.encoder.prompts([photo], [ask(fact)])
            for name, block in (("input_ids", begun), ("attention_mask", torch.ones_like(begun))):
                inputs[name] = torch.cat([inputs[name], block], dim=1)
            out = base.model.generate(**inputs, max_new_tokens=16, do_sample=False)
            said = base.encoder.decode(out[:, inputs["input_ids"].shape[1] :])[0]
            found.append(value.lower() in said.lower())
    return sum(found) / len(found)


if __name__ == "__main__":
    main()
