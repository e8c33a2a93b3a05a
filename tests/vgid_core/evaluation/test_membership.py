"""Membership attacks beside values written out."""

import math
import zlib

import pytest
import torch

from tests.vgid_core.support.reference import ByHand
from tests.vgid_core.support.students import MakeScorer, both_scorers, scrambled_adapter
from tests.vgid_core.support.tiny import pair_set
from vgid_core.data.pairs import Pair
from vgid_core.evaluation.measures.membership import ALL_MEMBERSHIP_ATTACKS, auc, membership_aucs, membership_scores
from vgid_core.models.base import BaseModel
from vgid_core.scoring.packed.scorer import PackedScorer
from vgid_core.scoring.padded import generate

PAIRS = pair_set("forget", 6).pairs


@pytest.fixture
def hand(base: BaseModel) -> ByHand:
    return ByHand(base, scrambled_adapter(base))


@both_scorers
def test_membership_scores(hand: ByHand, scorer: MakeScorer) -> None:
    found = membership_scores(hand.base, scorer(hand.base), PAIRS)
    assert set(found) == set(ALL_MEMBERSHIP_ATTACKS)
    for index, pair in enumerate(PAIRS):
        likely = hand.log_p(pair)
        least = max(1, round(0.2 * len(likely)))
        standard, surprise = [], []
        for row, token in zip(hand.logits(pair, True), hand.tokens(pair), strict=True):
            p = torch.softmax(row, 0)
            mean = float((p * p.log()).sum())
            deviation = math.sqrt(float((p * p.log().square()).sum()) - mean**2)
            surprise.append(-mean)
            standard.append((float(p[token].log()) - mean) / deviation)
        expected = {
            "loss": sum(likely) / len(likely),
            "zlib": sum(likely) / len(zlib.compress(pair.answer.encode())),
            "min_k": sum(sorted(likely)[:least]) / least,
            "min_k_plus_plus": sum(sorted(standard)[:least]) / least,
            "first_token": likely[0],
            "entropy": -sum(surprise) / len(surprise),
        }
        for name, value in expected.items():
            assert found[name][index] == pytest.approx(value, rel=1e-3), name


def test_the_gradient_norm_is_that_of_the_language_towers_norms_which_stay_frozen(hand: ByHand) -> None:
    base, pair = hand.base, PAIRS[0]
    scorer = PackedScorer(base)
    (found,) = membership_scores(base, scorer, [pair])["grad_norm"]
    weights = [p for p in base.model.get_decoder().parameters() if p.ndim == 1]
    assert not any(weight.requires_grad for weight in weights)
    for weight in weights:
        weight.requires_grad_(True)
    loss = -scorer.student_log_probability([pair]).mean()
    gradients = torch.autograd.grad(loss, weights)
    expected = math.sqrt(sum(float(gradient.double().square().sum()) for gradient in gradients))
    assert found == pytest.approx(-expected, rel=1e-3)


@pytest.mark.parametrize(
    ("members", "others", "expected"),
    [([2, 3], [0, 1], 1), ([0, 1], [2, 3], 0), ([1], [1], 0.5), ([0, 2], [1], 0.5), ([1, 3], [1, 0], 0.875)],
)
def test_auc_is_the_chance_to_score_higher(members: list[float], others: list[float], expected: float) -> None:
    assert auc(members, others) == pytest.approx(expected)


def test_a_model_that_knows_pairs_gives_them_away(base: BaseModel) -> None:
    """Members are what the base itself says; others are sentences that it doesn't."""
    said = base.encoder.decode(generate(base, PAIRS, 5))
    members = [Pair(p.image, p.question, s or "?") for p, s in zip(PAIRS, said, strict=True)]
    aucs = membership_aucs(base, PackedScorer(base), members, PAIRS)
    assert aucs["loss"] > 0.6
    assert membership_aucs(base, PackedScorer(base), PAIRS, PAIRS)["loss"] == 0.5
