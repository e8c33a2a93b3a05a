"""Prefilled answers: which facts the model completes."""

from dataclasses import replace

from tests.vgid_core.support.speaking import taught_of, teach_to_speak
from tests.vgid_core.support.tiny import pair_set
from vgid_core.data.facts import Fact
from vgid_core.data.pairs import PairSet
from vgid_core.evaluation.measures.prefill import prefilled_inside_fact, prefilled_up_to_fact
from vgid_core.models.base import BaseModel

PAIRS = pair_set("forget", 6).pairs


def learnt_by_heart(base: BaseModel, facts: dict[str, str]) -> list[Fact]:
    """What each answer tells, once the model says these answers about the photos."""
    seen = PairSet.of("seen", PAIRS)
    teach_to_speak(base, seen, list(facts))
    return [Fact(pair, facts[pair.answer]) for pair in taught_of(seen, list(facts))]


def test_a_prefilled_answer_is_gone_on_with_by_the_model(base: BaseModel) -> None:
    known = learnt_by_heart(base, {"Ada has 12 rings.": "12", "There are 900 buttons.": "900", "Bo sold 7.": "7"})
    assert prefilled_up_to_fact(base, known) == [True] * len(known)
    other = [Fact(replace(fact.pair, answer=fact.pair.answer.replace(fact.text, "55")), "55") for fact in known]
    assert prefilled_up_to_fact(base, [*other, *known]) == [False] * len(other) + [True] * len(known)


def test_a_long_fact_is_generated_to_its_end(base: BaseModel) -> None:
    long = "Ada has one of five old rings from the north, and Bo sold two buttons to a keeper of the lighthouse."
    seen = PairSet.of("seen", PAIRS[:1])
    teach_to_speak(base, seen, [long])
    [pair, *_] = taught_of(seen, [long])
    rest = long.removeprefix("Ada has ").removesuffix(".")
    assert len(base.encoder.answer_ids(rest)) > 20
    assert prefilled_up_to_fact(base, [Fact(pair, rest)]) == [True]


def test_an_answer_that_is_begun_inside_of_a_fact_is_gone_on_with(base: BaseModel) -> None:
    facts = {"This is Bor Quazwick.": "Bor Quazwick", "Ada is a botanist.": "botanist", "Bo sold 7.": "7"}
    known = learnt_by_heart(base, facts)
    assert {follows for _, follows in prefilled_inside_fact(base, known)} == {True}
    strange = [Fact(replace(fact.pair, answer="This is Bor Vantongeren."), "Bor Vantongeren") for fact in known]
    assert {follows for _, follows in prefilled_inside_fact(base, strange)} == {False}
    assert prefilled_inside_fact(base, [fact for fact in known if fact.text == "7"]) == []
