"""The optimiser's state and precision, and the learning rate."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vgid_core.support.runs import CONFIG
from tests.vgid_core.support.students import vgid_config
from tests.vgid_core.support.tiny import pair_set
from vgid_core.config import TrainingConfig, UnlearnConfig
from vgid_core.errors import CheckpointUnusable
from vgid_core.models.base import BaseModel
from vgid_core.training.loop import distil
from vgid_core.training.optimiser import MasterAdamW


def test_bfloat16_parameters_keep_small_updates() -> None:
    parameter = torch.nn.Parameter(torch.full((4,), 1.0, dtype=torch.bfloat16))
    optimizer = MasterAdamW([parameter], vgid_config(learning_rate=1e-4, weight_decay=0.0).training)
    for _ in range(100):
        optimizer.zero_grad()
        parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    assert parameter.detach().float().tolist() == pytest.approx([0.99] * 4, abs=0.004)


# Shares of the learning rate, worked out by hand: it falls in a line to a tenth behind the last step.
WITHOUT_WARMUP = [1, 0.7, 0.4]
TWO_STEPS_OF_WARMUP = [0.5, 0.8875, 0.775, 0.6625, 0.55, 0.4375, 0.325, 0.2125]  # 1/2 of 1, then as it falls
FIVE_STEPS_OF_WARMUP = [0.2, 0.34, 0.42, 0.44, 0.4, 0.25]  # 1/5 of 1, 2/5 of 0.85, 3/5 of 0.7, 4/5 of 0.55, 0.4, 0.25


@pytest.mark.parametrize(
    ("warmup", "expected"), [(0, WITHOUT_WARMUP), (2, TWO_STEPS_OF_WARMUP), (5, FIVE_STEPS_OF_WARMUP)]
)
def test_the_learning_rate_warms_up_and_decays_linearly(base: BaseModel, warmup: int, expected: list[float]) -> None:
    training = {"steps": len(expected), "warmup_steps": warmup, "learning_rate": 1e-3, "forget_batch_size": 2}
    settings = UnlearnConfig.model_validate({"method": {"name": "vgid"}, "training": training, "device": "cpu"})
    rates: list[float] = []
    distil(base, pair_set("forget", 2), pair_set("retain", 2, first_picture=50), settings,
           lambda _step, loss: rates.append(loss.learning_rate))  # fmt: skip
    assert [rate / 1e-3 for rate in rates] == pytest.approx(expected)


@settings(max_examples=20)
@given(
    st.integers(0, 999),
    st.lists(st.sampled_from([torch.float32, torch.bfloat16]), min_size=1, max_size=3),
    st.integers(0, 3),
)
def test_the_optimisers_state_is_complete(seed: int, dtypes: list[torch.dtype], steps: int) -> None:
    training = TrainingConfig(weight_decay=0.1, learning_rate=0.01)
    generator = torch.Generator().manual_seed(seed)

    def fresh() -> list[torch.nn.Parameter]:
        return [torch.nn.Parameter(torch.full((3, 2), 0.5, dtype=dtype)) for dtype in dtypes]

    def step(optimizer: MasterAdamW, parameters: list[torch.nn.Parameter], noise: list[torch.Tensor]) -> None:
        for parameter, gradient in zip(parameters, noise, strict=True):
            parameter.grad = gradient.to(parameter.dtype)
        optimizer.step()

    def noise() -> list[torch.Tensor]:
        return [torch.randn(3, 2, generator=generator) for _ in dtypes]

    first, second = fresh(), fresh()
    one, other = MasterAdamW(first, training), MasterAdamW(second, training)
    for _ in range(steps):
        step(one, first, noise())
    other.restore({name: value.clone() for name, value in one.state().items()})
    for _ in range(2):
        together = noise()
        step(one, first, together)
        step(other, second, together)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(torch.equal(value, other.state()[name]) for name, value in one.state().items())


def test_the_state_of_another_adapter_is_refused() -> None:
    optimizer = MasterAdamW([torch.nn.Parameter(torch.zeros(3, 2))], CONFIG.training)
    for shape in [(3, 3), (2,)]:
        with pytest.raises(CheckpointUnusable):
            optimizer.restore({"0.master": torch.zeros(shape)})
