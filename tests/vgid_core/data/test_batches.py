"""Batches go through a set image by image, each pair once a pass."""

import random

from tests.vgid_core.support.tiny import picture
from vgid_core.data.batches import draw_batches
from vgid_core.data.pairs import Pair, PairSet


def test_batches_pass_over_the_set_before_they_repeat_and_keep_an_images_questions_together() -> None:
    items = PairSet("retain", tuple(Pair(picture(i % 3), f"question {i}", "answer") for i in range(9)))
    batches = draw_batches(items, 6, random.Random(0))
    drawn = [pair for _ in range(3) for pair in next(batches)]
    assert {id(p) for p in drawn[:9]} == {id(p) for p in drawn[9:18]} == {id(p) for p in items}
    for start in range(0, 18, 3):
        assert len({pair.image.digest for pair in drawn[start : start + 3]}) == 1
    assert [id(p) for p in drawn[:9]] != [id(p) for p in drawn[9:18]]
