"""The ladder: what each rung changes, and what it doesn't."""

import pytest

from vgid_core import UnlearnConfig
from vgid_core.config.ladder import rungs


def config(retries: int, method: object = "vgid-substitute", **training: object) -> UnlearnConfig:
    values = {"method": method, "training": training, "evaluation": {"retries": retries}, "seed": 3}
    return UnlearnConfig.model_validate(values)


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_there_are_as_many_rungs_as_retries_allow(retries: int) -> None:
    found = rungs(config(retries, steps=40), 100)
    assert [rung.training.steps for rung in found] == [40, 60, 80][: 1 + retries]
    assert found[0] == config(retries, steps=40)


def test_the_last_rung_has_more_teachers_and_stronger_likelihoods() -> None:
    first, second, third = rungs(config(2, {"name": "vgid-substitute", "teachers": 6, "likelihood_weight": 2}), 100)
    assert (first.method.teachers, second.method.teachers, third.method.teachers) == (6, 6, 12)
    assert (second.method.likelihood_weight, third.method.likelihood_weight) == (2, 3)
    for rung in (second, third):
        same = {"training": first.training, "method": first.method}
        assert rung.model_copy(update=same) == first, "nothing else changes"
        steps = {"steps": first.training.steps}
        assert rung.training.model_copy(update=steps) == first.training


def test_steps_that_follow_from_the_forget_set_grow_from_what_they_come_to() -> None:
    assert [rung.training.steps for rung in rungs(config(2), 8)] == [96, 144, 192]
    assert [rung.training.steps for rung in rungs(config(2), 800)] == [300, 450, 600]


def test_no_rung_is_beyond_what_settings_allow() -> None:
    method = {"name": "vgid-substitute", "teachers": 200}
    last = rungs(config(2, method, steps=4000), 100)[-1]
    assert (last.training.steps, last.method.teachers) == (5000, 256)


def test_a_subjects_name_is_kept() -> None:
    method = {"name": "vgid", "instruction": "Forget {name}.", "subject_name": "Ada Quill"}
    for rung in rungs(config(2, method, steps=10), 10):
        assert rung.method.subject_name.get_secret_value() == "Ada Quill"
