"""Every audit of one demo model: what it says of the forgotten, of everyone else, and what attackers get."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean

from local.demo.data import encode, general, held_out_photos, known_facts, make, rephrased, unseen, utility
from local.demo.people import Person
from local.demo.questions import FACTS, VISUALS, answer, ask, visual_answer
from local.demo.world import Census, the_world
from vgid_core import EncodedImage, Pair, PairSet, UnlearnConfig
from vgid_core.config import AttackPlan
from vgid_core.data.facts import Fact
from vgid_core.data.photos import PhotoSet
from vgid_core.data.roles import AuditSets
from vgid_core.evaluation.attacks import run_attacks
from vgid_core.evaluation.evaluate import evaluate
from vgid_core.evaluation.evidence import Auditor
from vgid_core.evaluation.measures.candidate_ranking import (
    Score,
    Sought,
    by_first_token,
    by_logit_lens,
    by_whole_answer,
    candidate_ranking,
)
from vgid_core.evaluation.measures.membership import ALL_MEMBERSHIP_ATTACKS
from vgid_core.models.base import BaseModel
from vgid_core.scoring.choose import choose_scorer, probe_pairs

Figures = dict[str, float]

_QUESTIONS = 360  # at most, of each set
_IN_UTILITY = 20  # retained people
_RANKED_BY = ("birthplace", "job", "employer")  # facts whose answers begin with the name
KEPT = ("retain", "retain_check", "retain_unseen", "visual", "own_photos", "neighbours", "neighbours_unseen")
RANKINGS = ("first_token", "whole_name")


@dataclass(frozen=True)
class Case:
    """One forget request about the demo's world, and the sets that only measure.

    Neither `forget` nor `retain` holds the neighbours.
    """

    forgotten: tuple[int, ...]
    census: Census
    forget: PairSet
    retain: PairSet
    unseen_faces: PhotoSet
    measured: tuple[PairSet, ...]


def case_of(forgotten: Sequence[int], neighbours: Sequence[int], census: Census) -> Case:
    """The sets of forgetting these people beside these neighbours."""
    outside = (*forgotten, *neighbours)
    retained = [number for number in range(census.people) if number not in outside]
    of_all, of_forgotten = make(outside, census), make(forgotten, census)
    sets = {
        "forget": of_forgotten.forget,
        "unseen": held_out_photos(forgotten, census),
        "rephrased": rephrased(forgotten, census),
        "retain": of_all.retain,
        "retain_check": known_facts(retained, 3, census=census),
        "retain_unseen": held_out_photos(retained, census),
        "visual": utility([*outside, *retained[:_IN_UTILITY]], census=census),
        "own_photos": _everything_visible(forgotten, census),
        "neighbours": known_facts(neighbours, census=census),
        "neighbours_unseen": held_out_photos(neighbours, census),
    }
    if census.general:
        sets["general"] = general(census)
    measured = tuple(PairSet(name, pairs.pairs) for name, pairs in sets.items())
    return Case(tuple(forgotten), census, of_forgotten.forget, of_all.retain, of_all.unseen_faces, measured)


def _everything_visible(people: Sequence[int], census: Census) -> PairSet:
    """Every visual question of the training, on every photo that the model has never seen."""
    pairs = [
        Pair(encode(person.face, view), question, visual_answer(person.face, view, topic))
        for person in (the_world(census).people[number] for number in people)
        for view in person.held_out_views
        for topic, phrasings in VISUALS.items()
        for question in phrasings.training
    ]
    return PairSet.of("everything_visible", pairs)


def auditor_of(case: Case, config: UnlearnConfig, names: Sequence[str]) -> Auditor:
    """Audits models of the case by the settings' level, with these of its measured sets.

    Its photos never seen are of the forgotten, so they are a probe of another name.
    """
    named = {items.name: items for items in case.measured}
    titles = {"unseen": "held_out_photos"}
    measured = [PairSet(titles.get(name, name), named[name].pairs) for name in names]
    unseen_set = unseen(case.census)
    sets = AuditSets(case.forget, case.retain, unseen_set, neighbours=named["neighbours"])
    return Auditor(sets, [*measured, unseen_set], config)


def audited(base: BaseModel, config: UnlearnConfig, case: Case) -> Figures:
    """Every figure of one model, each in [0, 1]."""
    scorer = choose_scorer(base, probe_pairs([case.forget, case.retain]), config.lora)
    settings = config.evaluation.model_copy(update={"max_pairs": _QUESTIONS})
    metrics = evaluate(base, scorer, list(case.measured), settings)
    figures = {f"{metric.name}.{metric.split}": metric.value for metric in metrics}
    world = the_world(case.census)
    people = [world.people[number] for number in case.forgotten]
    facts = list(facts_about(people))
    members = PairSet.of("members", (fact.pair for fact in facts_about(people, held_out=True)))
    unseen = PairSet.of("unseen", (fact.pair for fact in facts_about(world.unseen_people, held_out=True)))
    figures |= run_attacks(base, scorer, members, unseen, facts, AttackPlan(pairs=100), seed=0)
    middle = len(base.model.get_decoder().layers) // 2 - 1
    for name, score, photos in (
        ("first_token", by_first_token(scorer), 4),
        ("lens", by_logit_lens(base, scorer, middle), 4),
        ("whole_name", by_whole_answer(scorer), 2),
    ):
        figures |= {f"ranking.{name}.{key}": value for key, value in _ranked(score, case, name, photos).items()}
    return figures


def beside(
    figures: Mapping[str, float], base: Mapping[str, float], reference_models: Sequence[Mapping[str, float]]
) -> Figures:
    """The same with drops from the base and distances from what the reference models give on average."""
    reference_model = {key: fmean(each[key] for each in reference_models) for key in reference_models[0]}
    added = {f"drop.{name}": base[f"rouge_l.{name}"] - figures[f"rouge_l.{name}"] for name in KEPT}
    for name in ALL_MEMBERSHIP_ATTACKS:
        added[f"from_reference.{name}"] = abs(figures[f"membership.{name}"] - reference_model[f"membership.{name}"])
    for name in RANKINGS:
        key = f"ranking.{name}.below"
        added[f"from_reference.{name}.below"] = abs(figures[key] - reference_model[key])
    added["from_reference.extraction_strength"] = abs(
        figures["extraction_strength"] - reference_model["extraction_strength"]
    )
    return {**figures, **added}


def facts_about(people: Sequence[Person], held_out: bool = False) -> Iterator[Fact]:
    """Every fact of each person: on a photo never trained on, or on one of the request's."""
    for person in people:
        photo = encode(person.face, (person.held_out_views if held_out else person.training_views)[0])
        for fact in FACTS:
            yield Fact(Pair(photo, ask(fact), answer(person, fact)), getattr(person, fact))


def _ranked(score: Score, case: Case, name: str, photos: int) -> dict[str, float]:
    """The mean over the facts whose answers begin with the name; by whole names, of the answers that are the name."""
    world = the_world(case.census)
    everybody = [*world.people, *world.unseen_people]
    usual = [encode(person.face, person.held_out_views[0]) for person in world.unseen_people]
    found = []
    for fact in ("name",) if name == "whole_name" else _RANKED_BY:
        candidates = [answer(person, fact) for person in everybody]
        sought = [
            Sought(photo, ask(fact), number)
            for number in case.forgotten
            for photo in _photos(everybody[number], photos)
        ]
        found.append(asdict(candidate_ranking(score, sought, candidates, usual[: 6 if name == "whole_name" else 20])))
    return {key: fmean(ranking[key] for ranking in found) for key in found[0]}


def _photos(person: Person, count: int) -> list[EncodedImage]:
    """Half of them of the request, half never seen."""
    views = [*person.training_views[: count // 2], *person.held_out_views[: count // 2]]
    return [encode(person.face, view) for view in views]
