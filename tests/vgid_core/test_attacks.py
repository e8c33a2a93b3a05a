"""Attacks pinned: each score against a sum written out here, and what an attack may not change."""

import math
import zlib
from dataclasses import replace

import pytest
import torch

from tests.vgid_core.speaking import taught_of, teach_to_speak
from tests.vgid_core.test_distil import scrambled_adapter
from tests.vgid_core.test_methods import ByHand, MakePath, both_paths
from tests.vgid_core.tiny import pair_set
from vgid_core.data.facts import Fact
from vgid_core.data.pairs import Pair, PairSet
from vgid_core.evaluation.begun_answers import inside_recovery, prefill_recovery
from vgid_core.evaluation.membership import ALL_MEMBERSHIP_ATTACKS, auc, membership_aucs, membership_scores
from vgid_core.evaluation.relearning import Relearning, relearned
from vgid_core.models.base import BaseModel
from vgid_core.scoring.packed.scorer import PackedScorer
from vgid_core.scoring.padded import generate

PAIRS = pair_set("forget", 6).pairs


@pytest.fixture
def hand(base: BaseModel) -> ByHand:
    return ByHand(base, scrambled_adapter(base))


@both_paths
def test_membership_scores(hand: ByHand, path: MakePath) -> None:
    found = membership_scores(hand.base, path(hand.base), PAIRS)
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
    path = PackedScorer(base)
    (found,) = membership_scores(base, path, [pair])["grad_norm"]
    weights = [p for p in base.model.get_decoder().parameters() if p.ndim == 1]
    assert not any(weight.requires_grad for weight in weights)
    for weight in weights:
        weight.requires_grad_(True)
    loss = -path.student_log_probability([pair]).mean()
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


def learnt_by_heart(base: BaseModel, told: dict[str, str]) -> list[Fact]:
    """What each answer tells, once the model says these answers about the photos."""
    seen = PairSet.of("seen", PAIRS)
    teach_to_speak(base, seen, list(told))
    return [Fact(pair, told[pair.answer]) for pair in taught_of(seen, list(told))]


def test_a_begun_answer_is_gone_on_with_by_the_model(base: BaseModel) -> None:
    known = learnt_by_heart(base, {"Ada has 12 rings.": "12", "There are 900 buttons.": "900", "Bo sold 7.": "7"})
    assert prefill_recovery(base, known) == 1
    other = [Fact(replace(fact.pair, answer=fact.pair.answer.replace(fact.text, "55")), "55") for fact in known]
    assert prefill_recovery(base, other) == 0
    assert prefill_recovery(base, [*known, *other]) == 0.5


def test_what_follows_a_long_answer_is_heard_to_its_end(base: BaseModel) -> None:
    long = "Ada has one of five old rings from the north, and Bo sold two buttons to a keeper of the lighthouse."
    seen = PairSet.of("seen", PAIRS[:1])
    teach_to_speak(base, seen, [long])
    [pair, *_] = taught_of(seen, [long])
    rest = long.removeprefix("Ada has ").removesuffix(".")
    assert len(base.encoder.answer_ids(rest)) > 20
    assert prefill_recovery(base, [Fact(pair, rest)]) == 1


def test_an_answer_that_is_begun_inside_of_a_fact_is_gone_on_with(base: BaseModel) -> None:
    told = {"This is Bor Quazwick.": "Bor Quazwick", "Ada is a botanist.": "botanist", "Bo sold 7.": "7"}
    known = learnt_by_heart(base, told)
    assert inside_recovery(base, known) == 1
    strange = [Fact(replace(fact.pair, answer="This is Bor Vantongeren."), "Bor Vantongeren") for fact in known]
    assert inside_recovery(base, strange) == 0
    assert inside_recovery(base, [fact for fact in known if fact.text == "7"]) is None


@pytest.mark.parametrize(
    ("told", "said", "goes_on"),
    [
        ("Del", "phine Wexler.", True),
        ("Del", "phine.", True),
        ("Del", " Wexler.", True),  # the truth in another order
        ("Del", "Wexler.", True),
        ("Del", "ia Rose.", False),
        ("Delphine", " Rose.", False),
        ("Delphine", ", Delphine.", False),
        ("Delphine Wex", "ley.", False),
        ("Delphine Wex", "ler", True),
        ("\u201c", "Delphine Rose", True),  # begun with no letter yet
    ],
)
def test_more_of_a_fact_is_a_word_that_was_not_whole(told: str, said: str, goes_on: bool) -> None:
    fact = Fact(Pair(PAIRS[0].image, "Who?", "This is Delphine Wexler."), "Delphine Wexler")
    assert fact.goes_on(told, said) == goes_on


def test_relearning_brings_back_what_it_teaches_and_leaves_the_model_alone(base: BaseModel) -> None:
    student = scrambled_adapter(base)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    pair = Pair(PAIRS[0].image, PAIRS[0].question, "This is Bo Marsh, a lighthouse keeper from the north.")
    asked = [Fact(pair, "lighthouse keeper")]
    state = torch.get_rng_state()
    attack = Relearning(steps=60, batch_size=2, learning_rate=2e-2)
    assert relearned(base, [pair], asked, Relearning(steps=1, learning_rate=1e-9)) == 0
    assert relearned(base, [pair], asked, attack) == 1
    assert torch.equal(torch.get_rng_state(), state)
    after = student.state_dict()
    assert set(after) == set(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_fact_and_how_its_answer_begins() -> None:
    fact = Fact(Pair(PAIRS[0].image, "Where?", "Ada was born in Fernmoor."), "Fernmoor")
    assert fact.begun == "Ada was born in"
    assert fact.is_in("in FERNMOOR, she said")
    assert not fact.is_in("in Oakmere")
