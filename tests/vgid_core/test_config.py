import subprocess
import sys

import pytest
from pydantic import ValidationError

from vgid_core.config import TrainingOverrides, UnlearnConfig
from vgid_core.config.methods import Vgid
from vgid_core.config.perturbation import PerturbationConfig


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
        assert "There are vgid-alias, vgid, ga," in str(error.value)


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


def test_the_instruction_goes_before_the_question() -> None:
    assert Vgid(instruction="Forget.").instructed("Who is this?") == "Forget. Who is this?"
    assert Vgid(instruction="").instructed("Who is this?") == "Who is this?"
