"""Settings of a run: what is refused, and how many steps it has."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from tests.vgid_core.support.runs import CONFIG, changed, with_fp8
from vgid_core.config import UnlearnConfig


@pytest.mark.parametrize("changes", [{"lora": {"dropout": 0.1}}, {"base_weights": "nf4"}])
def test_fp8_where_it_would_change_nothing_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="fp8"):
        changed(with_fp8(CONFIG), **changes)


def test_config_data_and_progress_load_without_torch() -> None:
    code = (
        "import sys, vgid_core, vgid_core.config, vgid_core.data.pairs, vgid_core.progress\n"
        "vgid_core.PairSet, vgid_core.UnlearnConfig, vgid_core.Progress\n"
        "assert not {'torch', 'transformers', 'peft'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    "values",
    [
        {"training": {"steps": 0}},
        {"training": {"learning_rate": -1e-3}},
        {"training": {"learning_rate": float("nan")}},
        {"training": {"steps": 10, "passes": 3}},
        {"lora": {"dropout": 1.0}},
        {"device": "gpu"},
        {"seed": -1},
        {"method": {"perturbation": {"kind": "snow"}}},
        {"method": {"perturbation": {"kind": "uniform", "strength": 0.5}}},
        {"method": {"perturbation": {"kind": "gaussian", "strength": 9}}},
    ],
)
def test_a_config_that_makes_no_sense_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        UnlearnConfig.model_validate(values)


def test_a_refused_method_isnt_repeated_as_it_may_be_somebodys_name() -> None:
    for values in ({"method": "Ilse Marwood"}, {"method": {"name": "Ilse Marwood"}}):
        with pytest.raises(ValidationError) as error:
            UnlearnConfig.model_validate(values)
        assert "Marwood" not in str(error.value)
        assert "There are vgid-substitute, vgid, ga," in str(error.value)


@pytest.mark.parametrize(
    ("training", "weighed"),
    [
        ({}, 96),
        ({"steps": 100}, 100),
        ({"steps": 2000, "forget_batch_size": 64, "retain_batch_size": 64}, 12_800),
        ({"steps": 1, "forget_batch_size": 1, "retain_batch_size": 1}, 1),
        ({"steps": 101, "forget_batch_size": 9}, 107),
    ],
)
def test_steps_are_weighed_by_the_pairs_that_they_take(training: dict[str, object], weighed: int) -> None:
    assert UnlearnConfig.model_validate({"training": training}).training.weighed_steps(8) == weighed


@pytest.mark.parametrize(("pairs", "steps"), [(1, 96), (256, 96), (257, 97), (400, 150), (1200, 450)])
def test_steps_grow_with_the_forget_set_where_nobody_says_how_many(pairs: int, steps: int) -> None:
    settings = UnlearnConfig().for_pairs(pairs)
    assert settings.training.steps == steps
    assert settings.for_pairs(pairs) == settings  # once told, they stay
    assert UnlearnConfig.model_validate(settings.model_dump(mode="json")) == settings


def test_no_set_is_so_large_that_a_runs_settings_couldnt_be_given_again() -> None:
    settings = UnlearnConfig().for_pairs(100_000)
    assert settings.training.steps == 5000
    assert UnlearnConfig.model_validate(settings.model_dump(mode="json")) == settings
