"""Teacher targets beside values written out."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.vgid_core.support.reference import plain_logits
from tests.vgid_core.support.students import SCORERS, MakeScorer, both_scorers, scrambled_adapter
from tests.vgid_core.support.substitute_runs import (
    FORGET,
    UNSEEN_FACES,
    config,
    dense_targets,
    one_substitute_and_unseen_face,
    targets_of,
)
from vgid_core.data.examples import DistillExample
from vgid_core.losses.top_k import TopKDistribution
from vgid_core.methods.vgid_substitute.targets import power_mean
from vgid_core.models.base import BaseModel
from vgid_core.scoring.packed.scorer import PackedScorer


@both_scorers
def test_a_target_is_what_the_base_says_of_an_unseen_face_under_a_substitute(
    base: BaseModel, scorer: MakeScorer
) -> None:
    """One teacher, one unseen face, and a retain set of two answers that leave one substitute to choose."""
    settings = config({"teachers": 1})
    context, substitute = one_substitute_and_unseen_face(base, {"teachers": 1}, ["Who?"])
    context = replace(context, scorer=scorer(base))
    found = dense_targets(base, targets_of(base, settings, context=context), context.forget.pairs)
    own = base.encoder.answer_ids("x q.")
    assert sum(mine != other for mine, other in zip(own, substitute, strict=True)) == 1
    said = plain_logits(base, UNSEEN_FACES[0].decode(), "Who?", substitute).softmax(-1)
    assert torch.allclose(found, said, atol=1e-4)


def test_a_target_gives_the_true_tokens_what_they_may_keep(base: BaseModel) -> None:
    targets = targets_of(base, config())
    found = dense_targets(base, targets, FORGET.pairs)
    ids = [token for pair in FORGET for token in base.encoder.answer_ids(pair.answer)]
    assert torch.allclose(found.sum(-1), torch.ones(len(ids)), atol=1e-5)
    assert torch.allclose(found[torch.arange(len(ids)), ids].log(), targets.log_likelihoods(FORGET.pairs), atol=1e-3)


# (mean of p^0.1)^(1/0.1): the tenth roots of 1, 2^-10, 2^-20, 2^-30 are 1, 1/2, 1/4, 1/8. Their mean is 15/32, so the
# level is 10 ln(15/32).
FOUR_TEACHERS, THEIR_LEVEL = [1.0, 2.0**-10, 2.0**-20, 2.0**-30], -7.576857


def test_the_level_of_four_teachers_worked_out_by_hand(base: BaseModel) -> None:
    class Saying(PackedScorer):
        """Teachers that find each true token as likely as written, one after the other."""

        def teacher_logits(self, examples: Sequence[DistillExample]) -> torch.Tensor:
            ids = self.answer_ids(examples[0].pair.answer)
            vocabulary = base.model.get_output_embeddings().out_features
            rows = [said_of(token, p, vocabulary) for p in FOUR_TEACHERS for token in ids]
            assert len(examples) == len(FOUR_TEACHERS)
            return torch.stack(rows)

    context, _ = one_substitute_and_unseen_face(base, {"teachers": 4}, ["Who?"])
    targets = targets_of(base, config({"teachers": 4}), context=replace(context, scorer=Saying(base)))
    targets.prepare(context.forget.pairs)
    levels = targets.log_likelihoods(context.forget.pairs)
    assert levels.tolist() == pytest.approx([THEIR_LEVEL] * len(levels), abs=1e-4)


def said_of(token: int, probability: float, vocabulary: int) -> torch.Tensor:
    """Log-probabilities: this one of the token, the rest the others' in equal parts."""
    logs = torch.full((vocabulary,), math.log(max(1 - probability, 1e-30) / (vocabulary - 1)))
    logs[token] = math.log(probability)
    return logs


def test_the_level_is_the_formula_of_what_the_models_own_forward_says(base: BaseModel) -> None:
    questions = ["Who?", "Where was this person born?", "What is the name of this person?"]
    context, substitute = one_substitute_and_unseen_face(base, {"teachers": 3}, questions)
    targets = targets_of(base, config({"teachers": 3}), context=context)
    targets.prepare(context.forget.pairs[:1])
    own = base.encoder.answer_ids("x q.")
    said = [plain_logits(base, UNSEEN_FACES[0].decode(), text, substitute).double().softmax(-1) for text in questions]
    expected = [
        math.log((sum(float(row[place, token]) ** 0.1 for row in said) / 3) ** (1 / 0.1))
        for place, token in enumerate(own)
    ]
    assert targets.log_likelihoods(context.forget.pairs[:1]).tolist() == pytest.approx(expected, abs=1e-3)


def test_pairs_with_one_answer_share_a_target_whatever_was_met_before(base: BaseModel) -> None:
    all_at_once, one_by_one = targets_of(base, config()), targets_of(base, config())
    expected = dense_targets(base, all_at_once, FORGET.pairs)
    for pair in reversed(FORGET.pairs):
        one_by_one.prepare([pair])
    assert torch.equal(dense_targets(base, one_by_one, FORGET.pairs), expected)
    *_, first, second = FORGET.pairs
    assert torch.equal(dense_targets(base, all_at_once, [first]), dense_targets(base, all_at_once, [second]))


@given(st.lists(st.floats(-12, 0), min_size=1, max_size=6), st.floats(0.05, 1))
def test_a_power_mean_lies_between_the_mean_of_logs_and_the_log_of_the_mean(logs: list[float], exponent: float) -> None:
    found = float(power_mean(torch.tensor(logs)[:, None], exponent))
    assert sum(logs) / len(logs) - 1e-4 <= found <= math.log(sum(map(math.exp, logs)) / len(logs)) + 1e-4


def test_teachers_are_asked_smaller_parts_where_memory_does_not_suffice(base: BaseModel) -> None:
    expected = dense_targets(base, targets_of(base, config()), FORGET.pairs)
    assert torch.allclose(
        dense_targets(base, targets_of(base, config(), SmallMemory(base)), FORGET.pairs), expected, atol=1e-4
    )


def test_a_process_that_shares_the_base_does_not_try_again_alone(base: BaseModel) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        targets_of(replace(base, sharded=True), config(), SmallMemory(base)).prepare(FORGET.pairs)


class SmallMemory(PackedScorer):
    def teacher_logits(self, examples: Sequence[DistillExample]) -> torch.Tensor:
        if len(examples) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().teacher_logits(examples)


def test_targets_with_much_tail_mass_are_warned_of_once(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    targets_of(base, config()).prepare(FORGET.pairs)
    assert "likeliest tokens" not in caplog.text, "so small a vocabulary is kept whole"
    monkeypatch.setattr(TopKDistribution, "from_probabilities", partial(TopKDistribution.from_probabilities, k=2))
    targets_of(base, config()).prepare(FORGET.pairs)
    assert caplog.text.count("likeliest tokens") == 1


def test_the_divergence_from_one_teachers_target_is_that_from_the_teacher(base: BaseModel) -> None:
    pair = FORGET.pairs[0]
    example = DistillExample(pair, pair.image, "Who?", tuple(base.encoder.answer_ids(pair.answer)))
    scrambled_adapter(base)
    for make in SCORERS:
        scorer = make(base)
        target = TopKDistribution.from_probabilities(scorer.teacher_logits([example]).softmax(-1))
        divergence, likelihood = scorer.kl_and_logprob([pair], target)
        assert torch.allclose(divergence, scorer.divergence([example]), atol=1e-5)
        assert torch.allclose(likelihood, scorer.student_log_probability([pair]), atol=1e-5)
