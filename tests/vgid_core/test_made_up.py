"""People who don't exist: what a step keeps of them, and that what it teaches doesn't depend on them."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from PIL import Image

from tests.vgid_core.test_distil import scrambled_adapter
from tests.vgid_core.test_methods import MakePath, both_paths
from tests.vgid_core.test_vgid_alias import FORGET, RETAIN, config, method_of, run_of
from vgid_core.config import UnlearnConfig
from vgid_core.data.examples import DistillExample
from vgid_core.data.pairs import EncodedImage, Pair, PairSet
from vgid_core.methods.loss_terms import LossTerm
from vgid_core.methods.vgid_alias.kept_beside import MOST, KeptBeside
from vgid_core.methods.vgid_alias.made_up import made_up_pairs
from vgid_core.models.base import BaseModel
from vgid_core.scoring.packed.scorer import PackedScorer


def made_up(
    base: BaseModel, settings: UnlearnConfig, retain: PairSet = RETAIN, path: PackedScorer | None = None
) -> KeptBeside:
    method, run = method_of(settings), replace(run_of(base, path or PackedScorer(base), settings), retain=retain)
    return KeptBeside(run, made_up_pairs(method, run), method.made_up_pairs)


def steps(base: BaseModel, settings: UnlearnConfig, retain: PairSet = RETAIN) -> list[list[Pair]]:
    source = made_up(base, settings, retain)
    return [source.next() for _ in range(settings.training.steps)]


def test_they_answer_a_retain_pairs_question_on_a_photo_and_with_an_answer_that_nobody_has(base: BaseModel) -> None:
    for pairs in steps(base, config({"made_up_pairs": 3})):
        assert len(pairs) == 3
        for pair in pairs:
            assert pair.question in {kept.question for kept in RETAIN}
            assert pair.image.decode().tobytes() not in {kept.image.decode().tobytes() for kept in RETAIN}
            assert pair.answer not in {kept.answer for kept in RETAIN}


def test_their_names_do_not_break_off(base: BaseModel) -> None:
    # In tokens: Bo, Ada, Quill, Marsh|per, Fern|kee, Marsh|kee.
    sayings = [f"It is {name}." for name in ("Bo", "Ada", "Quill", "Marshper", "Fernkee", "Marshkee")]
    named = PairSet.of("retain", [replace(p, answer=said) for p, said in zip(RETAIN, sayings, strict=True)])
    made = {
        pair.answer for pairs in steps(base, config({"made_up_pairs": 3, "common_share": 0.5}), named) for pair in pairs
    }
    assert len(made) > 3
    assert not [answer for answer in made if answer.endswith(("Marsh.", "Fern.")) or "Quillkee" in answer]


def test_questions_of_one_image_are_asked_of_one_made_up_person(base: BaseModel) -> None:
    image = RETAIN.pairs[0].image
    one_image = PairSet.of("retain", [replace(pair, image=image) for pair in RETAIN])
    assert len({pair.image for pairs in steps(base, config(), one_image) for pair in pairs}) == 1


def test_they_come_again_in_long_runs_and_the_same_ones_in_the_same_run(base: BaseModel) -> None:
    long = config({"made_up_pairs": 3}, steps=40)
    drawn = steps(base, long)
    assert drawn == steps(base, long)
    flat: Sequence[Pair] = [pair for pairs in drawn for pair in pairs]
    different = len(set(flat))
    assert different <= len(RETAIN), "each question of the retain set once"
    assert flat[different:] == flat[:-different]


@pytest.mark.parametrize("settings", [config({"made_up_pairs": 0}), config(retain_weight=0.0)])
def test_none_where_none_are_to_be_kept(base: BaseModel, settings: UnlearnConfig) -> None:
    assert steps(base, settings) == [[]] * settings.training.steps


def test_none_where_no_answer_tells_of_anybody(base: BaseModel) -> None:
    sentence = "The shirt is teal."
    alike = PairSet.of("retain", [replace(pair, answer=sentence * (1 + i % 2)) for i, pair in enumerate(RETAIN)])
    assert steps(base, config(), alike) == [[]] * config().training.steps


@both_paths
def test_a_step_keeps_them_beside_its_retain_batch(base: BaseModel, path: MakePath) -> None:
    settings = config({"made_up_pairs": 2})
    run = run_of(base, path(base), settings)
    _, [kept] = setup(settings.method, run)(FORGET.pairs, RETAIN.pairs[:4])
    assert isinstance(kept, LossTerm)
    assert [lesson.pair for lesson in kept.examples] == [*RETAIN.pairs[:4], *made_up(base, settings).next()]


def test_what_is_forgotten_does_not_depend_on_them(base: BaseModel) -> None:
    scrambled_adapter(base)
    found = []
    for count in (0, 4):
        settings, path = config({"made_up_pairs": count}, steps=1), PackedScorer(base)  # one pair is met at a time
        updates = setup(settings.method, run_of(base, path, settings))
        made = [updates([pair], RETAIN.pairs)[0][0] for pair in FORGET]
        found.append([[part.tolist() for part in term.values(term.examples)] for term in made])
    assert found[0] == found[1]


def test_the_base_is_asked_about_all_of_them_together_and_once(base: BaseModel) -> None:
    settings, path = config({"made_up_pairs": 2}, steps=40), Keeping(base)
    source = made_up(base, settings, path=path)
    assert path.kept == []
    drawn = {pair for _ in range(40) for pair in source.next()}
    assert set(path.kept) == drawn
    assert len(path.kept) == len(drawn)


def test_so_many_different_ones_at_most(base: BaseModel) -> None:
    many = PairSet.of("retain", [replace(pair, question=f"{pair.question} {i}") for i in range(20) for pair in RETAIN])
    settings = config({"made_up_pairs": 3}, steps=100)
    assert len({pair for pairs in steps(base, settings, many) for pair in pairs}) == MOST


def test_what_no_text_says_and_large_photos_are_not_made(base: BaseModel) -> None:
    large = EncodedImage.of(Image.new("RGB", (3000, 40), "navy"))
    broken = PairSet.of("retain", [Pair(large, "Who?", f"It is {letter}.") for letter in "äöüßñçéøåâêîôûœ"])
    answers = {pair.answer for pairs in steps(base, config({"made_up_pairs": 9}), broken) for pair in pairs}
    assert not any("\N{REPLACEMENT CHARACTER}" in answer for answer in answers)
    sizes = {pair.image.size for pairs in steps(base, config(), broken) for pair in pairs}
    assert sizes <= {(1024, 14)}


class Keeping(PackedScorer):
    """Takes note of what it is to keep."""

    def __init__(self, base: BaseModel) -> None:
        super().__init__(base)
        self.kept: list[Pair] = []

    def precompute(self, examples: Sequence[DistillExample]) -> None:
        self.kept += [lesson.pair for lesson in lessons]
