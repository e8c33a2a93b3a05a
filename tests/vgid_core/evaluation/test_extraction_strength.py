"""Extraction Strength beside a model that is really asked, token by token."""

import pytest
import torch

from tests.vgid_core.support.tiny import pair_set
from vgid_core.evaluation.measures.extraction_strength import extraction_strengths
from vgid_core.models.base import BaseModel
from vgid_core.scoring.packed.scorer import PackedScorer
from vgid_core.scoring.padded import generate

PAIRS = pair_set("forget", 5).pairs


def learn_by_heart(base: BaseModel, tokens: int) -> None:
    """Teaches all but the first so many tokens of each answer."""
    scorer = PackedScorer(base)
    weights = list(base.model.get_decoder().parameters())
    lengths = [len(scorer.answer_ids(pair.answer)) for pair in PAIRS]
    optimizer = torch.optim.AdamW(weights, lr=1e-2)
    for weight in weights:
        weight.requires_grad_(True)
    for _ in range(80):
        optimizer.zero_grad()
        parts = torch.split(scorer.student_log_probability(PAIRS), lengths)
        torch.autograd.backward(-torch.stack([part[tokens:].mean() for part in parts]).mean())
        optimizer.step()
    for weight in weights:
        weight.requires_grad_(False)


def given_until_the_rest_follows(base: BaseModel, index: int) -> float:
    """By definition: more and more of the answer is put into the model's mouth until it says the rest by itself."""
    pair = PAIRS[index]
    ids = base.encoder.answer_ids(pair.answer)
    for given in range(len(ids)):
        batch = base.encoder.batch([pair.image.decode()], [pair.question], [ids[:given]]) if given else None
        inputs = base.encoder.prompts([pair.image.decode()], [pair.question]) if batch is None else batch.inputs
        inputs = {name: value for name, value in inputs.items() if name != "position_ids"}
        with torch.no_grad():
            said = base.model.generate(**inputs, do_sample=False, max_new_tokens=len(ids) - given)
        if said[0, inputs["input_ids"].shape[1] :].tolist() == ids[given:]:
            return 1 - given / len(ids)
    return 0.0


@pytest.mark.parametrize("untaught", [0, 2])
def test_it_is_the_share_that_need_not_be_given(base: BaseModel, untaught: int) -> None:
    before = extraction_strengths(PackedScorer(base), PAIRS)
    learn_by_heart(base, untaught)
    found = extraction_strengths(PackedScorer(base), PAIRS)
    assert found == pytest.approx([given_until_the_rest_follows(base, index) for index in range(len(PAIRS))])
    assert sum(found) > sum(before)
    if not untaught:
        assert found == [1.0] * len(PAIRS)
        assert base.encoder.decode(generate(base, PAIRS, 40)) == [pair.answer for pair in PAIRS]
