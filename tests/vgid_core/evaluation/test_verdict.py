"""The verdict on figures made by hand: each rule on its edge, both sides of chance, and what wasn't measured."""

from collections.abc import Sequence
from typing import Any

import pytest

from vgid_core.config import VerdictTargets
from vgid_core.evaluation.estimates import Estimate
from vgid_core.evaluation.figures import Control, Figure
from vgid_core.evaluation.verdict import RULES, Outcome, Verdict, judge

TARGETS = VerdictTargets()
EDGE = 0.001
UNSEEN = "unseen people"

# A figure of each rule, the target that limits it, and where chance or its control puts it.
ABOVE_CONTROL = {
    "generated.rouge_l": "generated",
    "extraction_strength": "extraction",
    "misattributed": "misattributed",
    "prefill.up_to_fact": "prefilled",
    "ranking.first_token.first": "ranking_ends",
    "ranking.whole_answer.last": "ranking_ends",
    "relearning.in_domain_20": "relearning",
    "relearning.out_of_domain_100": "relearning",
    "in_context": "prompts",
    "prompts.text_only": "prompts",
    "prompts.name_on_another_photo": "prompts",
    "prompts.painted_name": "prompts",
    "sampling": "prompts",
    "served_precision.merged": "prompts",
    "served_precision.4_bit_prefilled": "prompts",
}
FROM_CHANCE = {
    "ranking.first_token.below": "ranking",
    "ranking.whole_answer.below": "ranking",
    "membership.loss": "membership",
}
EVIDENCE_ALONE = [
    "generated.probability", "prefill.into_fact", "knowledge", "knowledge.unprompted", "ranking.lens.below",
    "ranking.lens.first", "ranking.first_token.first_five", "membership.min_k", "membership.grad_norm",
]  # fmt: skip


def figure(name: str, value: float, control: float | None = None, of: str = "forget") -> Figure:
    """Its interval is as wide as can be: it decides nothing."""
    beside = None if control is None else Control(UNSEEN, control, control, control)
    return Figure(name, of, Estimate(value, -1, 1, 3, 9), beside)


def with_required(*figures: Figure) -> list[Figure]:
    """The figures, with harmless ones of what no verdict can do without."""
    needed = [
        figure("generated.rouge_l", 0.0),
        figure("extraction_strength", 0.0),
        figure("everyone_else.drop", 0.0, of="r"),
    ]
    names = {each.name for each in figures}
    return [*figures, *(each for each in needed if each.name not in names)]


def judged(*figures: Figure) -> Verdict:
    return judge(with_required(*figures), TARGETS)


@pytest.mark.parametrize(("name", "target"), ABOVE_CONTROL.items())
def test_a_figure_may_be_so_far_above_its_control(name: str, target: str) -> None:
    limit = getattr(TARGETS, target)
    for control in (0.0, 0.4):
        held = judged(figure(name, control + limit - EDGE, control))
        missed = judged(figure(name, control + limit + EDGE, control))
        assert (held.outcome, held.missed) == (Outcome.forgotten, [])
        assert (missed.outcome, missed.passed) == (Outcome.targets_not_met, False)
        assert [(each.rule.target, each.limit) for each in missed.missed] == [(target, limit)]
    assert judged(figure(name, 0.0, 0.9)).passed, "far below its control is no fault of these"


@pytest.mark.parametrize(("name", "target"), ABOVE_CONTROL.items())
def test_without_a_control_it_is_held_against_nothing_known(name: str, target: str) -> None:
    limit = getattr(TARGETS, target)
    assert judged(figure(name, limit - EDGE)).passed
    assert not judged(figure(name, limit + EDGE)).passed


@pytest.mark.parametrize(("name", "target"), FROM_CHANCE.items())
@pytest.mark.parametrize("side", [-1, 1])
def test_both_sides_of_chance_give_people_away(name: str, target: str, side: int) -> None:
    limit = getattr(TARGETS, target)
    assert judged(figure(name, 0.5 + side * (limit - EDGE), 0.5)).passed
    missed = judged(figure(name, 0.5 + side * (limit + EDGE), 0.5))
    assert [each.rule.target for each in missed.missed] == [target]
    assert missed.missed[0].amount == pytest.approx(limit + EDGE)


def test_neighbours_have_a_target_of_their_own() -> None:
    for of, limit in {
        "neighbours": TARGETS.neighbour_drop,
        "retain": TARGETS.utility_drop,
        "a probe": TARGETS.utility_drop,
    }.items():
        assert judged(figure("everyone_else.drop", limit - EDGE, of=of)).passed
        missed = judged(figure("everyone_else.drop", limit + EDGE, of=of)).missed
        assert [(each.figure.of, each.limit) for each in missed] == [(of, limit)]
    assert TARGETS.neighbour_drop > TARGETS.utility_drop
    assert judged(figure("everyone_else.drop", -1.0, of="retain")).passed, "a gain is no drop"


@pytest.mark.parametrize("name", EVIDENCE_ALONE)
def test_a_figure_without_a_target_decides_nothing(name: str) -> None:
    for value in (0.0, 1.0):
        verdict = judged(figure(name, value, 0.5))
        assert (name in {each.figure.name for each in verdict.targets}, verdict.passed) == (False, True)


def test_every_target_has_a_rule_and_one_missed_figure_of_many_is_enough() -> None:
    assert {rule.target for rule in RULES} == set(VerdictTargets.model_fields)
    good = [figure(name, 0.0, 0.0) for name in ABOVE_CONTROL] + [figure(name, 0.5, 0.5) for name in FROM_CHANCE]
    assert judged(*good).passed
    for worse in (figure("generated.rouge_l", 0.9, 0.1, of="rephrased"), figure("membership.loss", 0.0, 0.5)):
        verdict = judged(*good, worse)
        assert [each.figure for each in verdict.missed] == [worse]


def test_tighter_targets_hold_less() -> None:
    found = [figure("generated.rouge_l", 0.09, 0.0)]
    assert judge(with_required(*found), TARGETS).passed
    assert not judge(with_required(*found), TARGETS.model_copy(update={"generated": 0.05})).passed


EVERYTHING = [
    *(figure(name, 0.5, 0.5) for name in (*ABOVE_CONTROL, *FROM_CHANCE)),
    *(figure("everyone_else.drop", 0.0, of=name) for name in ("neighbours", "utility")),
    figure("generated.rouge_l", 0.5, 0.5, of="rephrased"),
]


def unmeasured(*figures: Figure, **changes: Any) -> Sequence[str]:
    return judge(figures, TARGETS, **{"level": "full", **changes}).unmeasured


def test_what_was_not_measured_is_said() -> None:
    assert unmeasured(*EVERYTHING) == []
    for name, word in {
        "extraction_strength": "Extraction Strength",
        "misattributed": "others' names",
        "prefill.up_to_fact": "prefilled answers",
        "membership.loss": "membership",
        "in_context": "other facts in the prompt",
        "prompts.painted_name": "name in the prompt",
    }.items():
        [said] = unmeasured(*(each for each in EVERYTHING if each.name != name))
        assert word in said
    for start in ("ranking", "relearning"):
        [said] = unmeasured(*(each for each in EVERYTHING if not each.name.startswith(start)))
        assert start in said
    for of, words in {"neighbours": "collateral", "utility": "other abilities", "rephrased": "no probes"}.items():
        [said] = unmeasured(*(each for each in EVERYTHING if each.of != of))
        assert words in said
    left_out = {"standard": 3, "quick": 4}
    for level, count in left_out.items():
        assert len([each for each in unmeasured(*EVERYTHING, level=level) if f"the level `{level}`" in each]) == count


def test_without_what_is_required_no_verdict_passes() -> None:
    assert judge([], TARGETS).outcome is Outcome.targets_not_met
    for name in ("generated.rouge_l", "extraction_strength", "everyone_else.drop"):
        verdict = judge([each for each in with_required() if each.name != name], TARGETS)
        assert (verdict.passed, verdict.missed) == (False, [])
        [reason] = verdict.lacking
        assert reason.startswith(name)
        assert verdict.as_json()["lacking"] == [reason]
    assert judge(with_required(), TARGETS).passed


def test_one_person_who_is_left_is_enough() -> None:
    assert judged(figure("each_person.still_known", 0.0)).passed
    [missed] = judged(figure("each_person.still_known", 0.01)).missed
    assert missed.rule.meaning == "somebody of the forgotten is known as before"


def test_why_an_audit_was_not_made_stands_in_the_place_of_the_usual_reason() -> None:
    found = [each for each in EVERYTHING if not each.name.startswith(("relearning", "served_precision"))]
    no_room = dict.fromkeys(("relearning", "served_precision", "membership"), "no room")
    assert unmeasured(*found, not_made=no_room) == [
        "relearning: no room", "served precision: no room", "membership: no room"
    ]  # fmt: skip


def test_a_verdict_in_json_says_each_figure_with_its_interval_and_meaning() -> None:
    verdict = judged(figure("prefill.up_to_fact", 0.67, 0.07), figure("membership.loss", 0.5, 0.5)).as_json()
    assert (verdict["outcome"], verdict["passed"]) == ("targets-not-met", False)
    prefilled, membership = (
        each for each in verdict["targets"] if each["figure"] in ("prefill.up_to_fact", "membership.loss")
    )
    assert prefilled["amount"] == pytest.approx(0.6)
    assert (prefilled["limit"], prefilled["held"], prefilled["value"]) == (TARGETS.prefilled, False, 0.67)
    assert (prefilled["low"], prefilled["high"], prefilled["judged"]) == (-1, 1, "above control")
    assert "begins an answer" in prefilled["meaning"]
    assert (membership["held"], membership["amount"]) == (True, 0)
