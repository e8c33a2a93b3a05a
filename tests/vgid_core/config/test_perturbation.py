"""Perturbation settings: strengths and their course over a run."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vgid_core.config.perturbation import STRENGTHS, PerturbationConfig

scheduled = st.sampled_from(sorted(STRENGTHS)).flatmap(
    lambda kind: st.fixed_dictionaries(
        {
            "kind": st.just(kind),
            "strength": st.floats(*STRENGTHS[kind][:2]),
            "final_strength": st.floats(*STRENGTHS[kind][:2]),
            "course": st.sampled_from(["linear", "cosine"]),
        }
    )
)


@settings(max_examples=60)
@given(scheduled, st.floats(0, 1))
def test_a_strength_stays_between_its_ends_and_starts_and_arrives_there(values: dict, progress: float) -> None:
    config = PerturbationConfig.model_validate(values)
    low, high = sorted([values["strength"], values["final_strength"]])
    middle = config.at(progress).effective_strength
    assert middle is not None
    assert low - 1e-9 <= middle <= high + 1e-9
    assert config.at(0).effective_strength == values["strength"]
    assert config.at(1).effective_strength == pytest.approx(values["final_strength"])


def test_a_strength_may_end_at_the_least_that_there_is() -> None:
    config = PerturbationConfig(kind="gaussian", strength=3.0, final_strength=STRENGTHS["gaussian"][0])
    assert config.at(1).strength == STRENGTHS["gaussian"][0]


def test_linear_goes_evenly_and_cosine_slowly_at_both_ends() -> None:
    linear = PerturbationConfig(kind="gaussian", strength=1.0, final_strength=3.0)
    cosine = linear.model_copy(update={"course": "cosine"})
    assert [linear.at(t).strength for t in (0.25, 0.5, 0.75)] == pytest.approx([1.5, 2.0, 2.5])
    assert cosine.at(0.5).strength == pytest.approx(2.0)
    assert cosine.at(0.25).strength == pytest.approx(1 + 2 * (1 - math.cos(math.pi / 4)) / 2)


def test_a_final_strength_starts_from_the_kinds_own() -> None:
    assert PerturbationConfig(kind="blur", final_strength=2.0).at(0).strength == STRENGTHS["blur"][2]
