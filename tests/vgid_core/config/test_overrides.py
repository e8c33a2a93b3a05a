"""Overrides of one request."""

import pytest
from pydantic import ValidationError

from vgid_core.config import TrainingOverrides, UnlearnConfig
from vgid_core.config.perturbation import PerturbationConfig


def test_overrides_change_what_they_name_and_nothing_else() -> None:
    base = UnlearnConfig.model_validate(
        {"method": "vgid", "lora": {"rank": 16, "alpha": 32}, "training": {"steps": 60}}
    )
    changed = TrainingOverrides(steps=10, lora_rank=8, seed=3, instruction="").apply_to(base)
    expected = base.model_dump()
    expected["training"]["steps"] = 10
    expected["lora"] = expected["lora"] | {"rank": 8, "alpha": 16}  # the adapter's scale is kept
    expected["seed"] = 3
    expected["method"]["instruction"] = ""
    assert changed.model_dump() == expected
    assert TrainingOverrides().apply_to(base) == base


def test_overrides_can_swap_the_perturbation() -> None:
    override = TrainingOverrides(perturbation=PerturbationConfig(kind="diffusion", strength=300))
    changed = override.apply_to(UnlearnConfig.preset("paper"))
    assert changed.method.perturbation == PerturbationConfig(kind="diffusion", strength=300)


def test_overrides_beyond_a_requests_limits_are_refused() -> None:
    for values in ({"steps": 2001}, {"learning_rate": 0.06}, {"lora_rank": 129}, {"dtype": "float32"}):
        with pytest.raises(ValidationError):
            TrainingOverrides.model_validate(values)
