"""ROUGE-L, answer probability and greedy answers."""

import pytest
import torch

from tests.vgid_core.support.runs import CONFIG
from tests.vgid_core.support.tiny import pair_set
from vgid_core.evaluation.evaluate import answer_probabilities, evaluate, generate_answers
from vgid_core.evaluation.measures.rouge import rouge_l
from vgid_core.models.base import BaseModel, answer_logits
from vgid_core.scoring.packed.scorer import PackedScorer
from vgid_core.scoring.padded import PaddedScorer


def test_probability_is_the_geometric_mean_of_the_answers_tokens(base: BaseModel) -> None:
    items = pair_set("forget", 4)
    plain, packed = (
        answer_probabilities(scorer.score_answers(items.pairs, CONFIG.evaluation))
        for scorer in (PaddedScorer(base), PackedScorer(base))
    )
    assert packed == pytest.approx(plain, rel=1e-4)
    for pair, value in zip(items, plain, strict=True):
        batch = base.encoder.batch([pair.image.decode()], [pair.question], [pair.answer])
        with torch.inference_mode():
            probabilities = answer_logits(base, batch)[0].softmax(-1)
        picked = [float(probabilities[i, token]) for i, token in enumerate(base.encoder.answer_ids(pair.answer))]
        assert value == pytest.approx(torch.tensor(picked).log().mean().exp().item(), rel=1e-3)


def test_generated_answers_are_those_of_the_model_alone(base: BaseModel) -> None:
    """Batched, left-padded generation says what one plain generate call says."""
    items = pair_set("forget", 4)
    together = generate_answers(base, items, CONFIG.evaluation)
    for pair, said in zip(items, together, strict=True):
        inputs = base.encoder.prompts([pair.image.decode()], [pair.question])
        with torch.inference_mode():
            out = base.model.generate(**inputs, max_new_tokens=6, do_sample=False)
        assert base.encoder.decode(out[:, inputs["input_ids"].shape[1] :]) == [said]


def test_rouge_l_is_the_f1_of_the_longest_common_subsequence() -> None:
    assert rouge_l(["the shirt is teal"], ["the shirt is teal"]) == 1.0
    assert rouge_l(["nothing of it"], ["the shirt"]) == 0.0
    # LCS "the is teal": precision 3/3, recall 3/4
    assert rouge_l(["the is teal"], ["the shirt is teal"]) == pytest.approx(2 * 0.75 / 1.75)
    assert rouge_l([""], ["the shirt"]) == 0.0


def test_no_more_pairs_are_measured_than_asked_for(base: BaseModel) -> None:
    settings = CONFIG.evaluation.model_copy(update={"max_pairs": 2})
    shares: list[float] = []
    metrics = evaluate(
        base, PaddedScorer(base), [pair_set("forget", 5), pair_set("retain", 2)], settings, shares.append
    )
    assert {m.pairs for m in metrics} == {2}
    assert shares == [0.5, 1.0]
