"""A preset is where settings start from; what is given changes it, table by table."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from vgid_core.config import TrainingOverrides, UnlearnConfig
from vgid_core.methods.taught import IMPERATIVE
from vgid_core.presets import PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_valid_and_outlives_its_dump(name: str) -> None:
    config = UnlearnConfig.preset(name)
    assert UnlearnConfig.model_validate(config.model_dump()) == config
    assert UnlearnConfig.model_validate_json(config.model_dump_json()) == config


def test_the_paper_has_both_halves_answer_tokens_and_equal_weights() -> None:
    config = UnlearnConfig.preset("paper")
    method = config.method
    assert (method.name, method.perturbation.kind, method.instruction) == ("vgid", "uniform", IMPERATIVE)
    assert (method.positions, method.retain_loss) == ("answer", "kl")
    assert config.training.forget_weight == config.training.retain_weight
    assert (config.lora.rank, config.lora.alpha, config.lora.scope) == (16, 16, "language")


def test_the_public_code_has_its_own_settings() -> None:
    config = UnlearnConfig.preset("public-code")
    training = config.training
    assert (training.forget_batch_size, training.retain_batch_size, training.epochs) == (4, 4, 5)
    assert (training.learning_rate, training.weight_decay, training.warmup_steps) == (5e-4, 0.0, 0)
    assert (training.forget_weight, training.retain_weight, training.gradient_clip) == (1.0, 1.0, None)
    assert (config.lora.rank, config.lora.alpha, config.lora.dropout) == (16, 16, 0.05)


def test_what_is_given_changes_a_preset_and_leaves_the_rest() -> None:
    given = {
        "preset": "public-code",
        "training": {"epochs": 1},
        "method": {"perturbation": {"kind": "blur"}},
        "seed": 4,
    }
    changed, preset = UnlearnConfig.model_validate(given), UnlearnConfig.preset("public-code")
    assert changed.training == preset.training.model_copy(update={"epochs": 1})
    assert changed.method.perturbation.kind == "blur"
    assert changed.method.positions == "all"
    assert (changed.lora, changed.dtype, changed.seed) == (preset.lora, preset.dtype, 4)
    assert given["method"] == {"perturbation": {"kind": "blur"}}, "what was given stays as it was"
    assert UnlearnConfig.preset("paper", method="vgid") == UnlearnConfig.preset("paper")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"preset": "papre"}, "must be one of paper, public-code"),
        ({"preset": ["paper"]}, "must be one of paper, public-code"),
        ({"preset": "paper", "method": "npo"}, "'paper' is the method 'vgid'"),
        ({"preset": "paper", "method": {"name": "npo", "beta": 1}}, "'paper' is the method 'vgid'"),
        ({"preset": "paper", "training": {"step": 3}}, "Extra inputs"),
        ({"preset": "paper", "training": 3}, "valid dictionary"),
    ],
)
def test_a_preset_that_makes_no_sense_is_refused(values: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        UnlearnConfig.model_validate(values)


def test_a_requests_steps_end_a_run_by_epochs_too() -> None:
    changed = TrainingOverrides(steps=10).apply_to(UnlearnConfig.preset("public-code"))
    assert changed.for_sets(400, 4000).training.steps == 10
