"""Answers about the forgotten that name somebody else: counted by hand, and of models that are taught to say so."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest

from tests.vgid_core.support.audited import by_name, context_of, unnamed
from tests.vgid_core.support.knowing import FORGET, FORGOTTEN, RETAIN, RETAINED, UNSEEN
from tests.vgid_core.support.speaking import learn_by_heart
from vgid_core import Pair, PairSet, UnlearnConfig
from vgid_core.data.roles import AuditSets
from vgid_core.evaluation.audits import misattributed
from vgid_core.evaluation.evaluate import SetAnswers
from vgid_core.evaluation.evidence import Auditor, Measured
from vgid_core.evaluation.figures import Figure
from vgid_core.evaluation.measures.named_people import KnownNames
from vgid_core.evaluation.rechecks import ReplaySets
from vgid_core.evaluation.verdict import Verdict
from vgid_core.models.base import BaseModel
from vgid_core.models.load import load_base
from vgid_core.scoring.choose import choose_scorer

NEIGHBOURS = PairSet.of("neighbours", [Pair(UNSEEN.pairs[0].image, "Who?", "It's Zoë Wren-Lee.", "Zoë Wren-Lee")])
SETS = AuditSets(FORGET, RETAIN, UNSEEN, neighbours=NEIGHBOURS)


def answers_of(items: PairSet, texts: Sequence[str]) -> SetAnswers:
    """The texts in turn."""
    said = [texts[number % len(texts)] for number in range(len(items))]
    return SetAnswers(items, said, [0.0] * len(items), [0.0] * len(items))


def figures_of(sets: AuditSets, *after: SetAnswers, before: Sequence[SetAnswers] = ()) -> list[Figure]:
    context = context_of(
        None,
        sets=sets,
        after={each.pairs.name: each for each in after},
        before={each.pairs.name: each for each in before},
    )
    return list(misattributed.audit(context))


def by_hand(answers: SetAnswers, others: Sequence[str]) -> float:
    """The share of texts with a whole name of these that isn't the pair's own, ignoring case and punctuation."""
    wrong = []
    for pair, text in zip(answers.pairs, answers.texts, strict=True):
        named = [name for name in others if re.search(rf"(?i)\b{re.escape(name)}\b", text)]
        wrong.append(any(name != pair.person and name not in pair.answer for name in named))
    return fmean(wrong)


TEXTS = (
    "I do not know this person.", "This is Dee Moor.", "dee  MOOR, born in Lowford.", "Zoë Wren-Lee works as a smith.",
    "This is Ada Quill.", "This is Dee Moorland.", "Dee, of the Moor.", "Eli Coast or Fay North.", "A keeper.",
)  # fmt: skip


def test_the_share_is_that_of_a_count_by_hand_beside_people_unseen() -> None:
    reworded = PairSet("rephrased", tuple(replace(pair, question=f"Say. {pair.question}") for pair in FORGET.pairs[:5]))
    unseen = answers_of(UNSEEN, TEXTS[:3])
    asked = [answers_of(FORGET, TEXTS), answers_of(reworded, TEXTS[2:4])]
    base = [answers_of(FORGET, ["This is Eli Coast.", "No."])]
    found = figures_of(SETS, *asked, answers_of(RETAIN, ["Dee Moor."]), unseen, before=base)
    others = (*RETAINED, "Zoë Wren-Lee")
    assert [(each.name, each.of) for each in found] == [("misattributed", "forget"), ("misattributed", "rephrased")]
    for figure, answers in zip(found, asked, strict=True):
        one_space = replace(answers, texts=[" ".join(text.split()) for text in answers.texts])
        assert figure.value == pytest.approx(by_hand(one_space, others))
        assert figure.estimate.low <= figure.value <= figure.estimate.high
        assert figure.control is not None
        assert (figure.control.of, figure.control.value) == ("unseen people", pytest.approx(2 / 3))
    assert [each.value for each in found] == pytest.approx([4 / 9, 1])
    assert (found[0].estimate.people, found[0].estimate.items) == (3, 9)
    assert [each.before for each in found] == [pytest.approx(5 / 9), None]


def test_who_is_asked_about_and_who_belongs_into_the_answer_is_nobody_else() -> None:
    """Both stand in a registered set, too."""
    boss = Pair(FORGET.pairs[0].image, "Who is the boss?", "Dee Moor is.", "Ada Quill")
    own = PairSet.of("forget", [boss, replace(boss, question="Who is this?", answer="Ada Quill.")])
    known = replace(SETS, forget=own, utility=PairSet.of("utility", FORGET.pairs[:1]))
    [figure] = figures_of(known, answers_of(own, ["Dee Moor.", "This is Ada Quill."]))
    assert figure.value == 0
    [figure] = figures_of(known, answers_of(own, ["Ada Quill.", "Dee Moor."]))
    assert figure.value == 0.5
    [figure] = figures_of(replace(known, forget=unnamed(own)), answers_of(unnamed(own), ["Ada Quill.", "Dee Moor."]))
    assert figure.value == 0, "of a photo without a label, every true answer says who it is"


def names_of(sets: AuditSets) -> set[str]:
    return {" ".join(name) for name in KnownNames.of_others(sets).names}


def test_known_are_those_whom_labels_name_or_else_answers() -> None:
    labelled = {name.casefold() for name in RETAINED}
    assert names_of(SETS) == labelled | {"zoë wren lee"}
    assert names_of(AuditSets(unnamed(FORGET), unnamed(RETAIN))) == labelled
    numbered = PairSet("retain", tuple(replace(pair, person=f"Subject {number}") for number, pair in enumerate(RETAIN)))
    assert names_of(replace(SETS, retain=numbered)) == labelled | {"zoë wren lee"}, "labels that no answer holds"
    towns = Pair(RETAIN.pairs[0].image, "What is to be seen?", "New York and the Eiffel Tower.")
    assert names_of(replace(SETS, utility=PairSet.of("utility", [towns]))) == names_of(SETS)
    assert names_of(replace(SETS, retain=PairSet.of("retain", [*RETAIN, towns]))) == names_of(SETS)
    chinese = PairSet.of("retain", [replace(towns, answer="这是王小明。", person="王小明")])
    assert KnownNames.of_others(replace(SETS, retain=chinese)).in_texts(["我认识王小明吗", "王小"]) == {
        ("王", "小", "明")
    }


def test_nothing_is_measured_where_nobody_is_named() -> None:
    nobody = PairSet.of("retain", [replace(pair, answer="yes") for pair in unnamed(RETAIN)])
    sets = AuditSets(FORGET, nobody, UNSEEN)
    assert figures_of(sets, answers_of(FORGET, TEXTS)) == []


def test_without_people_unseen_there_is_no_control() -> None:
    [figure] = figures_of(AuditSets(FORGET, RETAIN), answers_of(FORGET, TEXTS))
    assert figure.control is None


def verdict_of(base: BaseModel, answers: dict[str, str]) -> tuple[dict[str, Figure], Verdict]:
    """The evidence, with a replay set of two people, of a model that was taught to give these answers about people."""
    config = UnlearnConfig.model_validate({"device": "cpu", "evaluation": {"audits": "quick", "max_new_tokens": 16}})
    replay_set = PairSet("replay_set", FORGET.pairs[3:])
    own = PairSet("forget", FORGET.pairs[:3])
    auditor = Auditor(
        replace(SETS, forget=own), [own, RETAIN, UNSEEN], config, ReplaySets({"a replay set": replay_set})
    )
    before = auditor.before(base, choose_scorer(base, own.pairs[:2], config.lora))
    taught = [replace(pair, answer=answers.get(str(pair.person), pair.answer)) for pair in (*FORGET, *RETAIN)]
    learn_by_heart(base, taught, steps=80)
    found = auditor.evidence(auditor.after(base, choose_scorer(base, own.pairs[:2], config.lora), before))
    assert found is not None
    return {each.of: each for each in found.figures if each.name == "misattributed"}, found.verdict


def missed_of(verdict: Verdict) -> list[str]:
    return [each.figure.of for each in verdict.missed if each.rule.target == "misattributed"]


def test_the_verdict_fails_a_model_that_takes_the_forgotten_for_others(knowing_folder: Path) -> None:
    base = load_base(str(knowing_folder), UnlearnConfig(device="cpu"))
    wrong = dict(zip(FORGOTTEN, (f"This is {name}." for name in RETAINED), strict=True))
    figures, verdict = verdict_of(base, wrong)
    assert {of: figure.value for of, figure in figures.items()} == {"forget": 1, "replay_sets": 1}
    assert (figures["forget"].before, figures["replay_sets"].before) == (0, None)
    assert (missed_of(verdict), verdict.passed) == (["forget", "replay_sets"], False)
    assert "generated" not in {each.rule.target for each in verdict.missed}, (
        "nothing is said of the forgotten themselves"
    )


def test_the_verdict_takes_a_later_release_that_takes_the_earlier_ones_for_others(knowing_folder: Path) -> None:
    base = load_base(str(knowing_folder), UnlearnConfig(device="cpu"))
    earlier = dict.fromkeys(FORGOTTEN[1:], f"This is {RETAINED[0]}.")
    figures, verdict = verdict_of(base, {FORGOTTEN[0]: "Nobody.", **earlier})
    assert {of: figure.value for of, figure in figures.items()} == {"forget": 0, "replay_sets": 1}
    assert missed_of(verdict) == ["replay_sets"]


def test_a_model_that_knows_nobody_of_them_holds_the_target(knowing_folder: Path) -> None:
    base = load_base(str(knowing_folder), UnlearnConfig(device="cpu"))
    figures, verdict = verdict_of(base, dict.fromkeys(FORGOTTEN, "Nobody."))
    assert {figure.value for figure in figures.values()} == {0}
    assert missed_of(verdict) == []
    assert not [claim for claim in verdict.unmeasured if claim.startswith("others' names")]


def test_a_reference_models_share_stands_beside_and_judges() -> None:
    [own], [reference_model] = (
        figures_of(SETS, answers_of(FORGET, texts), answers_of(UNSEEN, ["No."])) for texts in (TEXTS, TEXTS[1:3])
    )
    beside = by_name(Measured(figures=[own]).beside(Measured(figures=[reference_model])).figures)["misattributed"]
    assert (beside.value, beside.reference_model) == (pytest.approx(4 / 9), 1)
