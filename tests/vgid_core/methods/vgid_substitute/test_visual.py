"""What anybody can see on the forgotten people's photos: what a step keeps of it, and what it leaves alone."""

import logging
from dataclasses import replace

import pytest

from tests.vgid_core.support.speaking import VISIBLE, said, teach_to_speak
from tests.vgid_core.support.students import MakeScorer, both_scorers, scrambled_adapter
from tests.vgid_core.support.substitute_runs import FORGET, RETAIN, config, method_of, run_of
from vgid_core.config import UnlearnConfig
from vgid_core.data.pairs import Pair, PairSet
from vgid_core.methods import setup
from vgid_core.methods.loss_terms import LossTerm
from vgid_core.methods.vgid_substitute.substitutes import substitutes_for
from vgid_core.methods.vgid_substitute.visual import visual_pairs
from vgid_core.models.base import BaseModel
from vgid_core.scoring.packed.scorer import PackedScorer


@pytest.fixture
def speaker(base: BaseModel) -> BaseModel:
    """The tiny model, taught to say something about each photo."""
    teach_to_speak(base, FORGET)
    return base


MOST = 64


def asking(questions: list[str] = VISIBLE, **training: object) -> UnlearnConfig:
    return config({"visual_questions": questions, "neighbour_pairs": 0}, **training)


def found(base: BaseModel, settings: UnlearnConfig, forget: PairSet = FORGET, most: int = MOST) -> list[Pair]:
    context = replace(run_of(base, PackedScorer(base), settings), forget=forget)
    return visual_pairs(method_of(settings).visual_questions, context, substitutes_for(context), most)


def test_they_ask_the_questions_on_photos_of_the_forget_set_and_have_the_bases_own_answers(speaker: BaseModel) -> None:
    pairs = found(speaker, asking())
    assert pairs
    assert len({(pair.image, pair.question) for pair in pairs}) == len(pairs)
    for pair in pairs:
        assert pair.image in {forgotten.image for forgotten in FORGET}
        assert pair.question in VISIBLE
        assert pair.answer == said(speaker, [pair])[0]


def test_what_the_student_says_by_now_is_not_asked(speaker: BaseModel) -> None:
    before = found(speaker, asking())
    scrambled_adapter(speaker)
    assert said(speaker, before) != [pair.answer for pair in before], "the adapter changes answers"
    assert found(speaker, asking()) == before


def test_none_where_none_are_to_be_kept(speaker: BaseModel) -> None:
    assert found(speaker, asking([])) == []
    assert found(speaker, asking(), most=0) == []


def test_what_is_to_be_forgotten_is_not_asked(speaker: BaseModel, caplog: pytest.LogCaptureFixture) -> None:
    asked = sorted({pair.question for pair in FORGET})
    with caplog.at_level(logging.WARNING):
        assert found(speaker, asking([f"  {question.upper()}" for question in asked])) == []
    assert "asks them all" in caplog.text
    assert {pair.question for pair in found(speaker, asking([*asked, *VISIBLE]))} == set(VISIBLE)


def test_an_answer_that_identifies_the_forgotten_is_not_kept(
    speaker: BaseModel, caplog: pytest.LogCaptureFixture
) -> None:
    kept = found(speaker, asking())
    identifying = next(pair for pair in kept if pair.answer == "900.")
    secret = PairSet.of("forget", [*FORGET, replace(FORGET.pairs[0], question="Who else?", answer=identifying.answer)])
    with caplog.at_level(logging.WARNING):
        assert set(found(speaker, asking(), secret)) == {pair for pair in kept if pair.answer != identifying.answer}
        assert "visual_questions" not in caplog.text, "an answer or two may go"
        answers = {pair.answer for pair in kept}
        assert (
            found(
                speaker,
                asking(),
                PairSet.of("forget", [*FORGET, *(replace(identifying, question=a, answer=a) for a in answers)]),
            )
            == []
        )
    [message] = [message for message in caplog.messages if "visual_questions" in message]
    assert "identify the forgotten" in message
    assert not [answer for answer in answers if answer in message], "no answer belongs in a log"


@pytest.mark.parametrize("answer", ["Teal.", "TEAL", "Fernmoor!", "ｔｅａｌ"])
def test_nor_is_one_that_says_it_in_other_tokens(base: BaseModel, answer: str) -> None:
    teach_to_speak(base, FORGET, (answer, "7."))
    ids = [set(base.encoder.answer_ids(pair.answer)[:-1]) for pair in FORGET]
    assert not any(set(base.encoder.answer_ids(answer)[:-1]) <= of_one for of_one in ids)
    assert {pair.answer for pair in found(base, asking())} == {"7."}


def test_so_many_different_ones_at_most(speaker: BaseModel) -> None:
    many = [f"{question} {number}" for number in range(20) for question in VISIBLE]
    assert len(found(speaker, asking(many), most=6)) <= 6


@both_scorers
def test_a_step_keeps_them_beside_its_retain_batch(speaker: BaseModel, scorer: MakeScorer) -> None:
    settings = asking()
    run = run_of(speaker, scorer(speaker), settings)
    updates = setup(settings.method, run)
    pairs = found(speaker, settings)
    for first in (0, 2):
        _, [kept] = updates(FORGET.pairs, RETAIN.pairs[:4])
        assert isinstance(kept, LossTerm)
        assert kept.role == "retain"
        beside = [pairs[(first + number) % len(pairs)] for number in range(2)]
        assert [example.pair for example in kept.examples] == [*RETAIN.pairs[:4], *beside]
