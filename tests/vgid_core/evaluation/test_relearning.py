"""Relearning: what comes back, and a model that stays as it is."""

import torch

from tests.vgid_core.support.students import scrambled_adapter
from tests.vgid_core.support.tiny import pair_set
from vgid_core.data.facts import Fact
from vgid_core.data.pairs import Pair
from vgid_core.evaluation.measures.relearning import relearned
from vgid_core.models.base import BaseModel

PAIRS = pair_set("forget", 6).pairs


def test_relearning_brings_back_what_it_teaches_and_leaves_the_model_alone(base: BaseModel) -> None:
    student = scrambled_adapter(base)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    pair = Pair(PAIRS[0].image, PAIRS[0].question, "This is Bo Marsh, a lighthouse keeper from the north.")
    asked = [Fact(pair, "lighthouse keeper")]
    state = torch.get_rng_state()
    assert relearned(base, [pair], asked, 1, seed=0) == [False]
    assert relearned(base, [pair], asked, 150, seed=0) == [True]
    assert torch.equal(torch.get_rng_state(), state)
    after = student.state_dict()
    assert set(after) == set(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())
