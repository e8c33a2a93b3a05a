"""The losses of vgid-alias beside values written out."""

import torch

from tests.vgid_core.support.alias_runs import FORGET, RETAIN, STRANGERS, config, dense_targets, run_of, targets_of
from tests.vgid_core.support.students import MakeScorer, both_scorers, scrambled_adapter
from vgid_core.config.methods import VgidAlias
from vgid_core.lora.attach import attach_adapter
from vgid_core.methods import setup
from vgid_core.models.base import BaseModel
from vgid_core.scoring.packed.scorer import PackedScorer
from vgid_core.scoring.scorer import Scorer
from vgid_core.training.loop import distil


@both_scorers
def test_the_loss_on_own_photos_is_divergence_and_distance_of_likelihood(base: BaseModel, scorer: MakeScorer) -> None:
    settings = config({"elsewhere_pairs": 0})
    scrambled_adapter(base)
    scorer = scorer(base)
    [own], _ = setup(settings.method, run_of(base, scorer, settings))(FORGET.pairs, RETAIN.pairs)
    targets = targets_of(base, settings)
    wanted = dense_targets(base, targets, FORGET.pairs)
    log_p = scorer.student_logits(FORGET.pairs).log_softmax(-1)
    ids = [token for pair in FORGET for token in base.encoder.answer_ids(pair.answer)]
    off = log_p[torch.arange(len(ids)), ids] - targets.log_likelihoods(FORGET.pairs)
    divergence, likelihood = own.values(own.examples)
    expected = (torch.special.xlogy(wanted, wanted) - wanted * log_p).sum(-1)
    assert torch.allclose(divergence, expected, atol=1e-3)
    assert torch.allclose(likelihood, torch.where(off.abs() < 1, off**2 / 2, off.abs() - 0.5), atol=1e-3)
    assert [part.weight for part in own.parts] == [1.0, VgidAlias().likelihood_weight]


@both_scorers
def test_retention_asks_nothing_of_a_student_that_is_the_base(base: BaseModel, scorer: MakeScorer) -> None:
    settings = config()
    attach_adapter(base, settings.lora)
    _, [retain] = setup(settings.method, run_of(base, scorer(base), settings))(FORGET.pairs, RETAIN.pairs[:4])
    assert [example.pair for example in retain.examples[:4]] == list(RETAIN.pairs[:4])
    assert len(retain.examples) == 4 + 6
    divergence, moved = retain.values(retain.examples)
    assert divergence.abs().max() < 1e-5
    assert moved.abs().max() < 1e-5


@both_scorers
def test_states_count_on_strangers_behind_an_answers_first_token(base: BaseModel, scorer: MakeScorer) -> None:
    settings = config({"bystander_pairs": 12})
    scrambled_adapter(base)
    scorer = scorer(base)
    _, [retain] = setup(settings.method, run_of(base, scorer, settings))(FORGET.pairs, RETAIN.pairs[:4])
    divergence, moved = retain.values(retain.examples)
    assert (divergence > 0).all()
    lengths = [len(scorer.answer_ids(example.pair.answer)) for example in retain.examples]
    on_strangers = 0
    for example, of_answer in zip(retain.examples, torch.split(moved, lengths), strict=True):
        is_stranger = example.pair.image in STRANGERS
        on_strangers += is_stranger
        assert of_answer[0] == 0
        assert ((of_answer[1:] > 0) == is_stranger).all()
    assert 0 < on_strangers < len(retain.examples)


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
