"""VGID with aliases: its targets and losses beside computations written out, and what must not change them."""

import logging
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.vgid_core.test_distil import scrambled_adapter
from tests.vgid_core.test_encoding import plain_logits
from tests.vgid_core.test_methods import PATHS, MakePath, both_paths
from tests.vgid_core.tiny import pair_set, picture
from vgid_core.config import UnlearnConfig
from vgid_core.config.methods import VgidAlias
from vgid_core.data.examples import DistillExample
from vgid_core.data.pairs import EncodedImage, Pair, PairSet
from vgid_core.lora.attach import attach_adapter
from vgid_core.losses.fused_linear import linear_kl_and_logprob
from vgid_core.losses.token_losses import token_kl_of_top_k, token_log_probability
from vgid_core.losses.top_k import TopKDistribution
from vgid_core.methods import setup
from vgid_core.methods.base import MethodContext
from vgid_core.methods.vgid_alias import bystanders
from vgid_core.methods.vgid_alias.aliases import aliases_for
from vgid_core.methods.vgid_alias.photos import blended, bounded, stranger_photos
from vgid_core.methods.vgid_alias.targets import TeacherTargets, power_mean
from vgid_core.models.base import BaseModel
from vgid_core.scoring.packed.scorer import PackedScorer
from vgid_core.scoring.scorer import Scorer
from vgid_core.training.loop import distil

RETAIN = pair_set("retain", 6, first_picture=50)
# Two of them share an answer, with a name in several tokens that nobody of the retain set bears.
FORGET = PairSet.of(
    "forget",
    [
        *pair_set("forget", 5),
        *(replace(pair, answer="This is Bor Quazwick.") for pair in pair_set("more", 2, first_picture=30)),
    ],
)
STRANGERS = [picture(number) for number in range(80, 84)]


def config(method: dict[str, object] | None = None, **training: object) -> UnlearnConfig:
    values = {"steps": 4, "forget_batch_size": 4, "retain_batch_size": 4, "learning_rate": 3e-3} | training
    settings = {"name": "vgid-alias", "teachers": 3, "elsewhere_pairs": 2, "bystander_pairs": 6} | (method or {})
    return UnlearnConfig.model_validate({"method": settings, "training": values, "device": "cpu", "seed": 5})


def run_of(base: BaseModel, scorer: Scorer, settings: UnlearnConfig) -> MethodContext:
    return MethodContext(base, scorer, settings.training, settings.seed, FORGET, RETAIN, STRANGERS)


def method_of(settings: UnlearnConfig) -> VgidAlias:
    assert isinstance(settings.method, VgidAlias)
    return settings.method


def targets_of(
    base: BaseModel, settings: UnlearnConfig, scorer: Scorer | None = None, context: MethodContext | None = None
) -> TeacherTargets:
    context = context or run_of(base, scorer or PackedScorer(base), settings)
    return TeacherTargets(method_of(settings), context, aliases_for(context), context.strangers)


def whole(base: BaseModel, targets: TeacherTargets, pairs: Sequence[Pair]) -> torch.Tensor:
    targets.prepare(pairs)
    return targets.distributions(pairs).whole(base.model.get_output_embeddings().out_features)


@both_paths
def test_a_target_is_what_the_base_says_of_a_stranger_under_an_alias(base: BaseModel, scorer: MakePath) -> None:
    """One teacher, one stranger, and a retain set of two answers that leave one alias to choose."""
    retain = PairSet.of("retain", [replace(RETAIN.pairs[0], answer=text) for text in ("x q.", "y q.")])
    forget = PairSet.of("forget", [replace(FORGET.pairs[0], question="Who?", answer="x q.")])
    settings = config({"teachers": 1})
    context = MethodContext(base, scorer(base), settings.training, 5, forget, retain, STRANGERS[:1])
    found = whole(base, targets_of(base, settings, context=context), forget.pairs)
    own, alias = base.encoder.answer_ids("x q."), base.encoder.answer_ids("y q.")
    assert sum(mine != other for mine, other in zip(own, alias, strict=True)) == 1
    said = plain_logits(base, STRANGERS[0].decode(), "Who?", alias).softmax(-1)
    assert torch.allclose(found, said, atol=1e-4)


def test_a_target_gives_the_true_tokens_what_they_may_keep(base: BaseModel) -> None:
    targets = targets_of(base, config())
    found = whole(base, targets, FORGET.pairs)
    ids = [token for pair in FORGET for token in base.encoder.answer_ids(pair.answer)]
    assert torch.allclose(found.sum(-1), torch.ones(len(ids)), atol=1e-5)
    assert torch.allclose(found[torch.arange(len(ids)), ids].log(), targets.log_likelihoods(FORGET.pairs), atol=1e-3)


def test_pairs_with_one_answer_share_a_target_whatever_was_met_before(base: BaseModel) -> None:
    all_at_once, one_by_one = targets_of(base, config()), targets_of(base, config())
    expected = whole(base, all_at_once, FORGET.pairs)
    for pair in reversed(FORGET.pairs):
        one_by_one.prepare([pair])
    assert torch.equal(whole(base, one_by_one, FORGET.pairs), expected)
    *_, first, second = FORGET.pairs
    assert torch.equal(whole(base, all_at_once, [first]), whole(base, all_at_once, [second]))


@given(st.lists(st.floats(-12, 0), min_size=1, max_size=6), st.floats(0.05, 1))
def test_a_power_mean_lies_between_the_mean_of_logs_and_the_log_of_the_mean(logs: list[float], exponent: float) -> None:
    found = float(power_mean(torch.tensor(logs)[:, None], exponent))
    assert sum(logs) / len(logs) - 1e-4 <= found <= math.log(sum(map(math.exp, logs)) / len(logs)) + 1e-4


@both_paths
def test_the_loss_on_own_photos_is_divergence_and_distance_of_likelihood(base: BaseModel, scorer: MakePath) -> None:
    settings = config({"elsewhere_pairs": 0})
    scrambled_adapter(base)
    scorer = scorer(base)
    [own], _ = setup(settings.method, run_of(base, scorer, settings))(FORGET.pairs, RETAIN.pairs)
    targets = targets_of(base, settings)
    wanted = whole(base, targets, FORGET.pairs)
    log_p = scorer.student_logits(FORGET.pairs).log_softmax(-1)
    ids = [token for pair in FORGET for token in base.encoder.answer_ids(pair.answer)]
    off = log_p[torch.arange(len(ids)), ids] - targets.log_likelihoods(FORGET.pairs)
    divergence, likelihood = own.values(own.examples)
    expected = (torch.special.xlogy(wanted, wanted) - wanted * log_p).sum(-1)
    assert torch.allclose(divergence, expected, atol=1e-3)
    assert torch.allclose(likelihood, torch.where(off.abs() < 1, off**2 / 2, off.abs() - 0.5), atol=1e-3)
    assert [part.weight for part in own.parts] == [1.0, VgidAlias().likelihood_weight]


def test_elsewhere_nothing_is_asked_until_the_answer_names_somebody(base: BaseModel) -> None:
    """A student that is the base still says what it said of the stranger, up to where the alias differs."""
    settings = config({"elsewhere_pairs": 5})
    attach_adapter(base, settings.lora)
    [_, elsewhere], _ = setup(settings.method, run_of(base, PackedScorer(base), settings))(FORGET.pairs, RETAIN.pairs)
    assert len(elsewhere.examples) == 5
    divergence, likelihood = elsewhere.values(elsewhere.examples)
    place = 0
    for example in elsewhere.examples:
        ids, read = base.encoder.answer_ids(example.pair.answer), example.teacher_prefix
        assert example.pair.image in STRANGERS
        assert example.teacher_image is example.pair.image
        assert read is not None
        assert read != tuple(ids)
        first = next(index for index in range(len(ids)) if read[index] != ids[index])
        assert divergence[place : place + first + 1].abs().max() < 1e-5
        assert likelihood[place : place + first + 1].abs().max() == 0
        assert divergence[place + first + 1 : place + len(ids)].max() > 1e-3
        place += len(ids)


@both_paths
def test_retention_asks_nothing_of_a_student_that_is_the_base(base: BaseModel, scorer: MakePath) -> None:
    settings = config()
    attach_adapter(base, settings.lora)
    _, [retain] = setup(settings.method, run_of(base, scorer(base), settings))(FORGET.pairs, RETAIN.pairs[:4])
    assert [example.pair for example in retain.examples[:4]] == list(RETAIN.pairs[:4])
    assert len(retain.examples) == 4 + 6
    [divergence] = retain.values(retain.examples)
    assert divergence.abs().max() < 1e-5


def test_bystanders_are_retain_questions_on_photos_of_nobody_in_a_set(base: BaseModel) -> None:
    settings = config({"bystander_pairs": 12})
    updates = setup(settings.method, run_of(base, PackedScorer(base), settings))
    registered = {pair.image for pair in [*FORGET, *RETAIN]}
    texts = {(pair.question, pair.answer) for pair in RETAIN}
    seen: list[EncodedImage] = []
    for _ in range(settings.training.steps or 0):
        _, [retain] = updates(FORGET.pairs, [])
        assert len(retain.examples) == 12
        for example in retain.examples:
            assert example.pair.image not in registered
            assert (example.pair.question, example.pair.answer) in texts
        seen += [example.pair.image for example in retain.examples]
    assert len(set(seen)) > 12, "new ones in every step"
    assert any(photo in STRANGERS for photo in seen)


def test_unlabelled_photos_are_kept_with_the_bases_own_answers_but_what_tells_of_the_forgotten(base: BaseModel) -> None:
    """The tiny model is taught to say a number about some photos, and the forgotten name about one."""
    photos = [picture(number) for number in range(90, 94)]
    questions = list(dict.fromkeys(pair.question for pair in RETAIN))
    told = [Pair(photo, text, str(7 + index)) for index, photo in enumerate(photos[:3]) for text in questions]
    told += [Pair(photos[3], text, FORGET.pairs[-1].answer) for text in questions]
    learn(base, told)
    settings = config({"bystander_pairs": 24})
    context = replace(run_of(base, PackedScorer(base), settings), unlabelled=photos)
    _, [retain] = setup(settings.method, context)(FORGET.pairs, [])
    unlabelled = [example.pair for example in retain.examples if example.pair.image in photos]
    assert unlabelled
    assert {pair.answer for pair in unlabelled} <= {"7", "8", "9"}
    assert photos[3] not in {pair.image for pair in unlabelled}


def learn(base: BaseModel, pairs: Sequence[Pair]) -> None:
    """Teaches the decoder these answers by heart."""
    weights = list(base.model.get_decoder().parameters())
    optimizer = torch.optim.AdamW(weights, lr=1e-2)
    for weight in weights:
        weight.requires_grad_(True)
    for _ in range(80):
        optimizer.zero_grad()
        torch.autograd.backward(-PackedScorer(base).student_log_probability(pairs).mean())
        optimizer.step()
    for weight in weights:
        weight.requires_grad_(False)


def test_what_is_kept_of_photos_that_are_shown_once_goes_again(base: BaseModel) -> None:
    settings = config({"bystander_pairs": 12}, steps=30)
    distil(base, FORGET, RETAIN, settings, strangers=STRANGERS)
    known = {pair.image.digest for pair in [*FORGET, *RETAIN]} | {photo.digest for photo in STRANGERS}
    held = set(base.features._kept)
    assert known & held
    ahead = bystanders._STEPS_AHEAD * 12
    assert len(held - known) <= ahead, "no more than of the last few steps"


def test_where_no_boundary_photo_shows_the_retained_person_it_is_told(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(bystanders, "_RECOGNISED", math.inf)
    settings = config()
    updates = setup(settings.method, run_of(base, PackedScorer(base), settings))
    with caplog.at_level(logging.WARNING):
        _, [retain] = updates(FORGET.pairs, RETAIN.pairs[:4])
    assert "boundary examples were found" in caplog.text
    assert len(retain.examples) > 4, "the other kinds are there"


def test_without_registered_strangers_blends_stand_in_and_it_is_told(
    base: BaseModel, caplog: pytest.LogCaptureFixture
) -> None:
    context = replace(run_of(base, PackedScorer(base), config()), strangers=())
    photos = stranger_photos(context, random.Random(0))
    assert "no strangers' photos are registered" in caplog.text
    assert not {photo.digest for photo in photos} & {pair.image.digest for pair in RETAIN}
    assert stranger_photos(context, random.Random(0)) == photos
    assert stranger_photos(run_of(base, PackedScorer(base), config()), random.Random(0)) == STRANGERS


def test_a_blend_lies_between_its_photos_and_is_no_longer_than_1024_pixels() -> None:
    one, other = picture(1), picture(2)
    mixed = blended(one, other, 0.25).decode()
    for place in ((2, 2), (30, 30)):
        for channel in range(3):
            first, second = one.decode().getpixel(place)[channel], other.decode().getpixel(place)[channel]
            assert mixed.getpixel(place)[channel] == pytest.approx(0.75 * first + 0.25 * second, abs=1.01)
    assert bounded((4000, 1000)) == (1024, 256)
    assert bounded((64, 48)) == (64, 48)


def test_likelihoods_end_nearer_to_what_they_may_be(base: BaseModel) -> None:
    settings = config(
        {"likelihood_weight": 5.0, "teachers": 16, "bystander_pairs": 0},
        steps=60,
        learning_rate=1e-2,
        retain_weight=0.0,
    )
    targets = targets_of(base, settings)
    targets.prepare(FORGET.pairs)
    wanted = targets.log_likelihoods(FORGET.pairs)
    before = off_by(PackedScorer(base), wanted)
    distil(base, FORGET, RETAIN, settings, strangers=STRANGERS)
    assert off_by(PackedScorer(base), wanted) < 0.5 * before


def off_by(scorer: Scorer, wanted: torch.Tensor) -> float:
    with torch.no_grad():
        return float((scorer.student_log_probability(FORGET.pairs) - wanted).abs().mean())


def test_a_retain_set_that_offers_no_aliases_is_told(base: BaseModel, caplog: pytest.LogCaptureFixture) -> None:
    alike = PairSet.of("retain", [replace(pair, answer="The shirt is teal.") for pair in RETAIN])
    settings = config()
    setup(settings.method, replace(run_of(base, PackedScorer(base), settings), retain=alike))
    assert any("too little to make aliases of" in record.message for record in caplog.records)


def test_teachers_are_asked_smaller_parts_where_memory_does_not_suffice(base: BaseModel) -> None:
    expected = whole(base, targets_of(base, config()), FORGET.pairs)
    assert torch.allclose(whole(base, targets_of(base, config(), SmallMemory(base)), FORGET.pairs), expected, atol=1e-4)


def test_a_process_that_shares_the_base_does_not_try_again_alone(base: BaseModel) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        targets_of(replace(base, sharded=True), config(), SmallMemory(base)).prepare(FORGET.pairs)


class SmallMemory(PackedScorer):
    def teacher_logits(self, examples: Sequence[DistillExample]) -> torch.Tensor:
        if len(examples) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().teacher_logits(examples)


def test_targets_of_which_much_is_left_out_are_told_of_once(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    targets_of(base, config()).prepare(FORGET.pairs)
    assert "likeliest tokens" not in caplog.text, "so small a vocabulary is kept whole"
    monkeypatch.setattr(TopKDistribution, "of", partial(TopKDistribution.of, most=2))
    targets_of(base, config()).prepare(FORGET.pairs)
    assert caplog.text.count("likeliest tokens") == 1


def test_kl_and_logprob_without_whole_logits_give_the_same_values_and_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(50, 12, generator=generator)
    target = TopKDistribution.of(torch.randn(700, 50, generator=generator).softmax(-1), most=20)
    states = torch.randn(700, 12, generator=generator)
    ids = torch.randint(50, (700,), generator=generator)
    ours, theirs = (states.clone().requires_grad_() for _ in range(2))
    fused = linear_kl_and_logprob(ours, target, ids, weight)
    logits = theirs @ weight.T
    plain = token_kl_of_top_k(target, logits), token_log_probability(logits, ids)
    for found, expected in zip(fused, plain, strict=True):
        assert torch.allclose(found, expected, atol=1e-5)
    for one, other in (fused, plain):
        (one.sum() + 0.7 * (other * other).sum()).backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-4)


def test_imitating_what_one_teacher_says_is_the_divergence_from_that_teacher(base: BaseModel) -> None:
    pair = FORGET.pairs[0]
    example = DistillExample(pair, pair.image, "Who?", tuple(base.encoder.answer_ids(pair.answer)))
    scrambled_adapter(base)
    for make in PATHS:
        scorer = make(base)
        target = TopKDistribution.of(scorer.teacher_logits([example]).softmax(-1))
        divergence, likelihood = scorer.kl_and_logprob([pair], target)
        assert torch.allclose(divergence, scorer.divergence([example]), atol=1e-5)
        assert torch.allclose(likelihood, scorer.student_log_probability([pair]), atol=1e-5)
