"""A preset is where settings start from; what is given changes it, table by table."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from vgid_core.config import UnlearnConfig
from vgid_core.config.presets import PRESETS

INSTRUCTION = "You must forget everything about this person."


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_valid_and_outlives_its_dump(name: str) -> None:
    config = UnlearnConfig.preset(name)
    assert UnlearnConfig.model_validate(config.model_dump()) == config
    assert UnlearnConfig.model_validate_json(config.model_dump_json()) == config


def test_the_paper_has_both_halves_answer_tokens_and_equal_weights() -> None:
    config = UnlearnConfig.preset("paper")
    method = config.method
    assert (method.name, method.perturbation.kind, method.instruction) == ("vgid", "uniform", INSTRUCTION)
    assert config.training.forget_weight == config.training.retain_weight
    assert (config.lora.rank, config.lora.alpha, config.lora.scope) == (16, 16, "language")


def test_what_is_given_changes_a_preset_and_leaves_the_rest() -> None:
    given = {
        "preset": "paper",
        "training": {"steps": 7},
        "method": {"perturbation": {"kind": "blur"}},
        "seed": 4,
    }
    changed, preset = UnlearnConfig.model_validate(given), UnlearnConfig.preset("paper")
    assert changed.training == preset.training.model_copy(update={"steps": 7})
    assert changed.method.perturbation.kind == "blur"
    assert changed.method.instruction == INSTRUCTION
    assert (changed.lora, changed.dtype, changed.seed) == (preset.lora, preset.dtype, 4)
    assert given["method"] == {"perturbation": {"kind": "blur"}}, "what was given stays as it was"
    assert UnlearnConfig.preset("paper", method="vgid") == UnlearnConfig.preset("paper")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"preset": "papre"}, "must be one of paper"),
        ({"preset": ["paper"]}, "must be one of paper"),
        ({"preset": "paper", "method": "npo"}, "'paper' is the method 'vgid'"),
        ({"preset": "paper", "method": {"name": "npo", "beta": 1}}, "'paper' is the method 'vgid'"),
        ({"preset": "paper", "training": {"step": 3}}, "Extra inputs"),
        ({"preset": "paper", "training": 3}, "valid dictionary"),
    ],
)
def test_a_preset_that_makes_no_sense_is_refused(values: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        UnlearnConfig.model_validate(values)
