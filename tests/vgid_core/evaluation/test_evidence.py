"""All audits together: what sets allow, and what is said of those that can't be made."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.vgid_core.support.audited import unnamed
from tests.vgid_core.support.knowing import FORGET, RETAIN, UNSEEN
from vgid_core import EncodedImage, Pair, PairSet, UnlearnConfig
from vgid_core.config import LoraSettings
from vgid_core.data.pairs import DataError
from vgid_core.data.roles import AuditSets
from vgid_core.evaluation import evidence, levels
from vgid_core.evaluation.audit_context import AuditContext, AuditSizes
from vgid_core.evaluation.audits import extraction, membership, relearning, served_precision
from vgid_core.evaluation.evidence import Auditor, Evidence, Measured
from vgid_core.evaluation.figures import Figure, NotMeasured
from vgid_core.evaluation.known import require_known
from vgid_core.evaluation.measures import relearning as attack
from vgid_core.lora.attach import attach_adapter
from vgid_core.models.base import BaseModel
from vgid_core.models.load import load_base
from vgid_core.scoring.choose import choose_scorer


@pytest.fixture
def knowing(knowing_folder: Path) -> BaseModel:
    return load_base(str(knowing_folder), UnlearnConfig(device="cpu"))


def audited(
    base: BaseModel, sets: AuditSets, others: Sequence[PairSet] = (), level: str = "full"
) -> tuple[Measured, Evidence]:
    """The base's figures, and the evidence of it with an adapter that changes nothing."""
    evaluation = {"audits": level, "max_new_tokens": 12}
    config = UnlearnConfig.model_validate({"device": "cpu", "evaluation": evaluation})
    registered = [items for items in (sets.forget, sets.retain, sets.unseen) if items is not None]
    auditor = Auditor(sets, [*registered, *others], config)
    scorer = choose_scorer(base, sets.forget.pairs[:2], config.lora)
    before = auditor.before(base, scorer)
    attach_adapter(base, LoraSettings()).eval()
    shares: list[float] = []
    found = auditor.evidence(auditor.after(base, scorer, before, shares.append))
    assert found is not None
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
    return before, found


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The level `full` with few steps and draws."""
    full = levels.LEVELS["full"]
    sizes = replace(full.sizes, relearning_steps=(1,), samples=1)
    monkeypatch.setitem(levels.LEVELS, "full", replace(full, sizes=sizes))


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The level `full` with audits alone that copy a model or take its gradients, and one that does neither."""
    audits = (
        extraction.audit,
        membership.by_likelihood,
        membership.by_gradient,
        relearning.in_domain,
        served_precision.audit,
    )
    sizes = AuditSizes(pairs=60, relearning_steps=(1,))
    monkeypatch.setitem(levels.LEVELS, "full", levels.Level(sizes, (), audits))


@pytest.mark.usefixtures("short")
def test_a_model_that_forgot_nothing_misses_every_target_about_the_forgotten(knowing: BaseModel) -> None:
    neighbours = PairSet("neighbours", RETAIN.pairs)
    before, found = audited(knowing, AuditSets(FORGET, RETAIN, UNSEEN), [neighbours])
    require_known(before.figures)
    assert [reason.partition(":")[0] for reason in found.verdict.unmeasured] == [
        "other photos and wordings of the forgotten", "other abilities"
    ]  # fmt: skip
    missed = {result.rule.target for result in found.verdict.missed}
    assert missed == {
        "generated",
        "extraction",
        "prefilled",
        "still_known",
        "ranking",
        "ranking_ends",
        "membership",
        "relearning",
        "prompts",
    }
    assert {figure.before for figure in found.figures if figure.name == "extraction_strength"} == {1}
    drop = [figure for figure in found.figures if figure.name == "everyone_else.drop"]
    assert {figure.of: figure.value for figure in drop} == {"retain": 0, "neighbours": 0}
    document = str(found.as_json())
    for pair in [*FORGET, *UNSEEN, *RETAIN]:
        assert pair.answer not in document
        assert str(pair.person) not in document


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    ("sets", "unmeasured"),
    [
        (AuditSets(FORGET, RETAIN), {"candidate ranking", "membership", "collateral"}),
        (
            AuditSets(PairSet("forget", FORGET.pairs[:1]), PairSet("retain", RETAIN.pairs[:1])),
            {"candidate ranking", "membership", "other facts in the prompt", "the name in the prompt", "collateral"},
        ),
        (
            AuditSets(
                PairSet("forget", tuple(replace(pair, fact=pair.answer) for pair in FORGET.pairs[:3])),
                RETAIN,
                PairSet("unseen", UNSEEN.pairs[:1]),
            ),
            {"prefilled answers", "candidate ranking", "collateral"},
        ),
        (
            AuditSets(unnamed(FORGET), unnamed(RETAIN), unnamed(UNSEEN)),
            {"the name in the prompt", "collateral"},
        ),
    ],
    ids=["no unseen people", "one pair", "one person, facts that are whole answers", "nobody named"],
)  # fmt: skip
def test_small_and_nameless_sets_are_measured_as_far_as_they_go(
    knowing: BaseModel, sets: AuditSets, unmeasured: set[str]
) -> None:
    _, found = audited(knowing, sets)
    claims = {reason.partition(":")[0] for reason in found.verdict.unmeasured}
    assert claims == unmeasured | {"other photos and wordings of the forgotten", "other abilities"}
    for figure in found.figures:
        assert figure.estimate.low <= figure.value <= figure.estimate.high
        assert 1 <= figure.estimate.people <= figure.estimate.items


def test_at_the_level_quick_the_verdict_says_what_it_did_not_ask(knowing: BaseModel) -> None:
    _, found = audited(knowing, AuditSets(FORGET, RETAIN, UNSEEN), level="quick")
    assert [reason for reason in found.verdict.unmeasured if "`quick`" in reason] == [
        "relearning: the level `quick` leaves it out",
        "other facts in the prompt: the level `quick` leaves it out",
        "the name in the prompt: the level `quick` leaves it out",
        "answers prefilled inside of a fact: the level `quick` leaves it out",
        "relearning on other people, on other wordings and on anything else: the level `quick` leaves it out",
        "drawn answers: the level `quick` leaves it out",
        "servers' precisions (merged, 8 and 4 bits): the level `quick` leaves it out",
    ]


@pytest.mark.usefixtures("copies")
def test_without_room_for_a_copy_the_run_goes_on_and_says_so(
    knowing: BaseModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    copied = copy.deepcopy

    def full(value: object, *memo: dict[int, object]) -> object:
        if hasattr(value, "get_decoder"):
            raise torch.OutOfMemoryError
        return copied(value, *memo)

    monkeypatch.setattr(attack.copy, "deepcopy", full)
    _, found = audited(knowing, AuditSets(FORGET, RETAIN, UNSEEN))
    names = {figure.audit for figure in found.figures}
    assert not names & {"relearning", "served_precision"}
    assert names >= {"extraction_strength", "membership"}
    no_room = "the device has no room for a copy of the model"
    assert f"relearning: {no_room}" in found.verdict.unmeasured
    assert f"served precision: {no_room}" in found.verdict.unmeasured
    assert f"relearning isn't measured: {no_room}" in caplog.messages


@pytest.mark.usefixtures("copies")
def test_a_base_in_shares_is_not_copied_and_takes_no_gradients(knowing: BaseModel) -> None:
    _, found = audited(replace(knowing, sharded=True), AuditSets(FORGET, RETAIN, UNSEEN))
    names = {figure.name for figure in found.figures}
    assert "membership.loss" in names
    assert not [name for name in names if name.startswith(("relearning", "served", "membership.grad"))]
    assert len([reason for reason in found.verdict.unmeasured if "each process holds a part" in reason]) == 3


@pytest.mark.usefixtures("copies")
def test_four_bit_weights_are_merged_for_the_attacker(knowing_folder: Path) -> None:
    base = load_base(str(knowing_folder), UnlearnConfig(device="cpu", base_weights="nf4"))
    _, found = audited(base, AuditSets(FORGET, RETAIN, UNSEEN))
    assert {"relearning", "served_precision", "membership"} <= {figure.audit for figure in found.figures}
    assert all("relearning" not in reason for reason in found.verdict.unmeasured)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NotMeasured("there is a reason"), "there is a reason"),
        (torch.OutOfMemoryError(), "the device has too little memory for it"),
        (DataError("holds one of the model's control tokens", "[0].question"), "control tokens"),
    ],
)
def test_an_audit_that_stops_half_way_leaves_what_it_found(
    knowing: BaseModel, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    def audit(context: AuditContext) -> Iterator[Figure]:
        yield context.figure("sampling", context.estimate(FORGET.pairs, [0.0] * 9))
        raise error

    audit.__module__ = "somewhere.sampling"
    level = replace(levels.LEVELS["quick"], after=(audit, *levels.LEVELS["quick"].after))
    monkeypatch.setitem(evidence.LEVELS, "quick", level)
    _, found = audited(knowing, AuditSets(FORGET, RETAIN, UNSEEN), level="quick")
    assert {"sampling", "extraction_strength"} <= {figure.name for figure in found.figures}
    [said] = [each for each in found.verdict.unmeasured if each.startswith("sampling")]
    assert reason in said


def test_a_persons_name_with_a_control_token_is_refused_before_anything_is_computed(knowing: BaseModel) -> None:
    """Audits ask by it."""
    photo: EncodedImage = FORGET.pairs[0].image
    bad = PairSet.of("forget", [FORGET.pairs[0], Pair(photo, "Who?", "Ada.", person="Ada <image> Quill")])
    with pytest.raises(DataError) as refused:
        knowing.encoder.require_usable(bad)
    assert refused.value.field == "forget[1].person"
    assert "Quill" not in str(refused.value)
