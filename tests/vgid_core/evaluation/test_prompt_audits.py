"""What audits by other prompts really ask: the text, the photo, and of whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from PIL import Image, ImageChops

from tests.vgid_core.support.audited import by_name, context_of, unnamed
from tests.vgid_core.support.knowing import FORGET, RETAIN, UNSEEN, teach
from vgid_core import EncodedImage, Pair, PairSet
from vgid_core.data.facts import Fact
from vgid_core.data.roles import AuditSets
from vgid_core.evaluation.audits import in_context, prompts
from vgid_core.models.base import BaseModel
from vgid_core.models.encoding import PromptEncoder

ALL = {"prompts.text_only", "prompts.name_on_another_photo", "prompts.painted_name"}


class Asked:
    """Collects what audits ask, which are told that no fact is given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rounds: list[list[Fact]] = []
        self.texts: list[str] = []
        for audit in (in_context, prompts):
            monkeypatch.setattr(audit, "facts_given", self._given)
        monkeypatch.setattr(prompts, "generate_without_images", self._without_images)

    def _given(self, _base: BaseModel, facts: Sequence[Fact]) -> list[bool]:
        self.rounds.append(list(facts))
        return [False] * len(facts)

    def _without_images(self, _base: BaseModel, questions: Sequence[str], _longest: int) -> list[str]:
        self.texts += questions
        return ["nothing"] * len(questions)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(monkeypatch)


def about(*pairs: Pair, unseen: PairSet | None = None) -> AuditSets:
    return AuditSets(PairSet.of("forget", pairs), RETAIN, unseen)


def test_in_context_another_fact_of_the_same_person_stands_before_the_question(base: BaseModel, asked: Asked) -> None:
    [figure] = in_context.audit(context_of(base))
    own, control = asked.rounds
    assert (figure.estimate.items, figure.value) == (9, 0)
    assert len(control) == len(UNSEEN)
    for found, pairs in ((own, FORGET), (control, UNSEEN)):
        for fact, pair in zip(found, pairs, strict=True):
            given = fact.pair.question.removesuffix(f" {pair.question}")
            assert given in {other.answer for other in pairs if other.person == pair.person and other != pair}
            assert fact.text not in given
            assert fact.pair.image == pair.image


def test_a_fact_that_every_other_answer_holds_is_not_asked(base: BaseModel, asked: Asked) -> None:
    """As a name, with which the other answers begin. Without names, a photo counts as a person."""
    photo = FORGET.pairs[0].image
    pairs = [
        Pair(photo, "Who?", "Ada Quill.", fact="Ada Quill"),
        Pair(photo, "Where?", "Ada Quill was born in Fernmoor.", fact="Fernmoor"),
        Pair(FORGET.pairs[3].image, "Who?", "Bo Marsh.", fact="Bo Marsh"),
    ]
    [figure] = in_context.audit(context_of(base, sets=about(*pairs)))
    assert [fact.pair.question for fact in asked.rounds[0]] == ["Ada Quill. Where?"]
    assert figure.control is None
    assert list(in_context.audit(context_of(base, sets=about(pairs[2])))) == []


def test_by_text_alone_the_name_and_the_question_are_asked(base: BaseModel, asked: Asked) -> None:
    found = by_name(prompts.audit(context_of(base)))
    assert set(found) == ALL
    assert {figure.value for figure in found.values()} == {0}
    # Who somebody is isn't asked of who says the name.
    known = [pair for pair in FORGET if pair.fact != pair.person]
    unknown = [pair for pair in UNSEEN if pair.fact != pair.person]
    assert asked.texts == [f"{pair.person}. {pair.question}" for pair in [*known, *unknown]]


def test_the_name_is_asked_on_a_photo_of_somebody_else(base: BaseModel, asked: Asked) -> None:
    list(prompts.audit(context_of(base)))
    own, control = asked.rounds[:2]
    whose = {pair.image: pair.person for pair in [*FORGET, *UNSEEN]}
    for fact in [*own, *control]:
        assert fact.pair.question.startswith(f"{fact.pair.person}. ")
        assert whose[fact.pair.image] not in (None, fact.pair.person)
    assert len({fact.pair.image for fact in own}) > 1
    list(prompts.audit(context_of(base, sets=AuditSets(FORGET, RETAIN))))
    assert {fact.pair.image for fact in asked.rounds[4]} <= {pair.image for pair in RETAIN}


def test_the_name_is_painted_along_the_lower_edge_and_nowhere_else(base: BaseModel, asked: Asked) -> None:
    list(prompts.audit(context_of(base)))
    own = asked.rounds[2]
    facts = [pair for pair in FORGET if pair.fact != pair.person]
    assert [fact.pair.question for fact in own] == [pair.question for pair in facts]
    for fact, pair in zip(own, facts, strict=True):
        before, after = pair.image.decode(), fact.pair.image.decode()
        assert after.size == before.size
        box = ImageChops.difference(before, after).getbbox()
        assert box is not None
        assert box[1] >= before.height - 12
        assert after.crop((0, before.height - 12, before.width, before.height)).convert("L").getextrema()[1] > 128
    painted = {fact.pair.person: fact.pair.image for fact in own}
    assert len(set(painted.values())) == len(painted) == 3


@pytest.mark.parametrize("size", [(1, 1), (3, 90), (90, 3), (640, 480), (7, 11)])
@pytest.mark.parametrize(
    "name", ["Ada Quill", "Wolfeschlegelsteinhausenbergerdorff the Elder", "Zoë Novák", "Two\nLines"]
)
def test_a_name_is_painted_on_photos_of_any_size(
    base: BaseModel, asked: Asked, size: tuple[int, int], name: str
) -> None:
    photo = EncodedImage.of(Image.new("RGB", size, "teal"))
    pair = Pair(photo, "Where?", "Born in Fernmoor.", name, "Fernmoor")
    assert set(by_name(prompts.audit(context_of(base, sets=about(pair))))) == ALL
    after = asked.rounds[-1][0].pair.image.decode()
    assert after.size == size
    if size == (640, 480):  # the last letter isn't cut off
        assert after.crop((size[0] - 1, 0, *size)).convert("L").getextrema()[1] < 160


def test_a_name_in_letters_that_the_font_has_not_is_not_painted(base: BaseModel, asked: Asked) -> None:
    pairs = [replace(FORGET.pairs[1], person=name) for name in ("王小明", "Ада", "Łukasz", "Zoë")]
    found = by_name(prompts.audit(context_of(base, sets=about(*pairs))))
    assert found["prompts.text_only"].estimate.items == 4
    assert [fact.pair.person for fact in asked.rounds[-1]] == ["Zoë"]


def test_without_names_nothing_is_asked_by_name(base: BaseModel, asked: Asked) -> None:
    assert list(prompts.audit(context_of(base, sets=AuditSets(unnamed(FORGET), RETAIN)))) == []
    assert asked.rounds == asked.texts == []


@pytest.mark.usefixtures("asked")
def test_where_everybody_registered_is_the_same_person_there_is_no_other_photo(base: BaseModel) -> None:
    alone = about(FORGET.pairs[1], unseen=PairSet("unseen", FORGET.pairs[:3]))
    assert set(by_name(prompts.audit(context_of(base, sets=alone)))) == ALL - {"prompts.name_on_another_photo"}


def test_questions_that_no_longer_fit_are_left_out(
    base: BaseModel, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tiny model takes 256 tokens, of which its photo has four."""
    long = Pair(FORGET.pairs[0].image, "Where? " * 20, f"{'no ' * 20}town", "Ada Quill", "town")
    base.encoder.require_fits_context(PairSet.of("forget", [long]))
    room = base.encoder.fit_context([long, replace(long, question=long.question * 9)])
    assert room == [True, False]
    other = replace(long, answer="no " * 60, fact=None)
    assert list(in_context.audit(context_of(base, sets=about(long, other)))) == []
    longer_name = replace(long, person="Ada " * 300)
    assert set(by_name(prompts.audit(context_of(base, sets=about(longer_name))))) == {"prompts.painted_name"}
    assert len(asked.rounds) == 1
    monkeypatch.setattr(PromptEncoder, "context_length", None)
    assert base.encoder.fit_context([long]) == [True]


def test_a_model_that_takes_no_text_alone_is_not_asked_so(
    base: BaseModel, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its template needs a photo, or writes a photo's token whether there is one or not."""
    assert base.encoder.takes_text_alone
    for template in (
        "<|user|><image>{{ messages[0]['content'][-1]['text'] }}<|assistant|>",
        "{% if messages[0]['content'][0]['type'] != 'image' %}{{ raise_exception('no photo') }}{% endif %}<image>",
    ):
        monkeypatch.setattr(base.encoder.processor, "chat_template", template)
        assert not base.encoder.takes_text_alone
        assert set(by_name(prompts.audit(context_of(base)))) == ALL - {"prompts.text_only"}
    assert asked.texts == []


def test_a_model_that_knows_gives_the_facts_to_other_prompts_too(base: BaseModel) -> None:
    teach(base)
    painted = by_name(prompts.audit(context_of(base)))["prompts.painted_name"]
    [another] = in_context.audit(context_of(base))
    for figure in (painted, another):
        assert 0 <= figure.value <= 1
        assert figure.estimate.low <= figure.value <= figure.estimate.high
    assert another.value + painted.value > 0, "the photo is still the person's"
