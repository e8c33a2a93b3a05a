"""What the default method's teachers are shown, asked and hear in a forget pair's place."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PIL import Image

from tests.vgid_core.test_vgid_alias import FORGET, RETAIN, config, method_of, run_of, taught
from vgid_core.config.methods import VgidAlias
from vgid_core.data.pairs import EncodedImage, PairSet
from vgid_core.methods.vgid_alias.teaching import AliasTeacher
from vgid_core.models.base import BaseModel
from vgid_core.scoring.packed.scorer import PackedScorer
from vgid_core.scoring.padded import decoded


def test_teachers_hear_what_is_not_true_and_some_of_them_no_instruction(base: BaseModel) -> None:
    settings = config({"draws": 4, "instructed_share": 0.5})
    drawn = taught(base, PackedScorer(base), settings)
    instruction = settings.method.instruction  # type: ignore[union-attr]
    asked = [[hearing.lesson.asked for hearing in each] for each in drawn]
    assert [sum(text.startswith(instruction) for text in each) for each in asked] == [0, len(FORGET), 0, len(FORGET)]
    for each in drawn:
        for lesson in (lesson for hearing in each for lesson in hearing.lessons):
            true = base.encoder.answer_ids(lesson.pair.answer)
            assert lesson.teacher_prefix is not None
            assert len(lesson.teacher_prefix) == len(true)
            assert lesson.teacher_prefix[-1] == true[-1]
    heard = {each[0].alias.forms[0] for each in drawn}
    assert len(heard) > 1, "each teacher another alias"


def test_uninstructed_teachers_are_shown_a_photo_of_nobody_and_asked_the_plain_question(base: BaseModel) -> None:
    path = PackedScorer(base)
    for hearings in taught(base, path, config({"draws": 3, "instructed_share": 0.0, "blended_photos": 1})):
        lessons = [hearing.lesson for hearing in hearings]
        assert [lesson.asked for lesson in lessons] == [pair.question for pair in FORGET]
        sizes = {decoded(lesson.teacher_image).size for lesson in lessons}
        assert sizes == {pair.image.decode().size for pair in FORGET}
        assert len({id(lesson.teacher_image) for lesson in lessons}) == len(sizes), (
            "one prefix for all questions of a draw"
        )
        shown = {decoded(lesson.teacher_image).tobytes() for lesson in lessons}
        assert shown <= {pair.image.decode().resize(size).tobytes() for pair in RETAIN for size in sizes}


def test_no_teacher_hears_a_true_telephone_number(base: BaseModel) -> None:
    path, numbers = PackedScorer(base), ["0171 2345", "0182 9061", "0346 7508", "0953 1624"]
    kept = PairSet.of("retain", [replace(pair, answer=f"Call {n}.") for n in numbers for pair in RETAIN])
    forgotten = replace(FORGET.pairs[0], answer="Call 0264 1873.")
    run = replace(run_of(base, path, config()), retain=kept)
    [[hearing]] = AliasTeacher(method_of(config()), run, 0).draws([forgotten], 1)
    true = path.answer_ids(forgotten.answer)
    for form, asked in zip(hearing.alias.forms, hearing.places, strict=True):
        for place in asked:
            [heard], [said] = (base.encoder.decode([list(ids[:place])]) for ids in (form, true))
            digits = [sum(map(str.isdigit, text)) for text in (heard, said)]
            assert digits[1] < 4 or heard != said


def test_a_number_that_the_retain_set_lacks_is_replaced_by_a_number(base: BaseModel) -> None:
    path = PackedScorer(base)
    sayings = ["Room 0.", "Room 1.", "Room 2.", "Room 3.", "Room Quill.", "Room Marsh."]
    kept = PairSet.of("retain", [replace(p, answer=said) for p, said in zip(RETAIN, sayings, strict=True)])
    forget = PairSet.of("forget", [replace(FORGET.pairs[0], answer="Room 7.")])
    run = replace(run_of(base, path, config()), forget=forget, retain=kept)
    for [hearing] in AliasTeacher(method_of(config()), run, 0).draws(forget.pairs, 8):
        [heard] = base.encoder.decode([list(hearing.alias.forms[0])])
        assert heard[len("Room ")] in "0123"


@pytest.mark.parametrize("instructed", [0.0, 1.0])
def test_teachers_are_shown_no_larger_picture_than_is_held_easily(base: BaseModel, instructed: float) -> None:
    large = EncodedImage.of(Image.effect_noise((1500, 900), 40).convert("RGB"))
    run = run_of(base, PackedScorer(base), config())
    method = method_of(config({"instructed_share": instructed}))
    [[hearing]] = AliasTeacher(method, run, 0).draws([replace(FORGET.pairs[0], image=large)], 1)
    assert decoded(hearing.lesson.teacher_image).size == (1024, 614)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (0.25, 2), (0.5, 4), (0.75, 6), (1.0, 8)])
def test_the_share_that_gets_the_instruction(share: float, expected: int) -> None:
    method = VgidAlias(instructed_share=share)
    assert sum(method.hears_instruction(number) for number in range(8)) == expected
