"""What the teacher is shown and asked: strengths that change, templates, and a name that is written nowhere."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.vgid_core.tiny import pair_set
from vgid_core import UnlearnConfig, UnlearnSpec, unlearn
from vgid_core.config.methods import Vgid
from vgid_core.config.perturbation import STRENGTHS, PerturbationConfig
from vgid_core.methods.perturb import perturb
from vgid_core.methods.vgid import Teacher

FORGET = pair_set("forget", 3)
NAME = "Zenobia Quillfeather"

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


def test_the_teacher_goes_through_the_strengths_step_by_step() -> None:
    blur = {"kind": "blur", "strength": 1, "final_strength": 5}
    teacher = Teacher(Vgid.model_validate({"perturbation": blur}), seed=0, steps=5)
    image = FORGET.pairs[0].image.decode()
    for radius in (1, 2, 3, 4, 5, 5):
        shown = teacher.examples(FORGET.pairs[:1])[0].teacher_image
        expected = perturb(image, PerturbationConfig(kind="blur", strength=radius), torch.Generator())
        assert shown.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    "method",
    [
        {"perturbation": {"kind": "uniform", "final_strength": 0.5}},
        {"perturbation": {"kind": "blur", "final_strength": 65}},
        {"perturbation": {"kind": "blur", "course": "sideways"}},
        {"perturbation": {"kind": "gaussian", "final_strength": 1}, "noise_draws": 3},
        {"instruction": "Forget {name}."},
        {"subject_name": NAME},
        {"instruction": "Forget {name}.", "subject_name": " "},
        {"instruction": "Forget {name}.", "subject_name": f"{NAME}\nand all"},
        {"instruction": "Forget {name}.", "subject_name": "**********"},
        {"instruction": "Forget {nmae}."},
    ],
)
def test_an_intervention_that_makes_no_sense_is_refused_without_repeating_it(method: dict) -> None:
    with pytest.raises(ValidationError) as refused:
        UnlearnConfig.model_validate({"method": method})
    assert NAME not in str(refused.value)
    assert "nmae" not in str(refused.value)


@pytest.mark.parametrize(
    ("instruction", "asked"),
    [
        ("Forget.", "Forget. Who is {name}?"),
        ("{question} Say that you don't know.", "Who is {name}? Say that you don't know."),
        ("Forget {name}.", f"Forget {NAME}. Who is {{name}}?"),
        ("Q: {question} ({name} is private; {name}!)", f"Q: Who is {{name}}? ({NAME} is private; {NAME}!)"),
        ("Forget {}, { } and {1 2}.", "Forget {}, { } and {1 2}. Who is {name}?"),
    ],
)
def test_a_template_takes_the_question_and_the_name_once(instruction: str, asked: str) -> None:
    """What stands in a question is no template."""
    values = {"instruction": instruction} | ({"subject_name": NAME} if "{name}" in instruction else {})
    assert Vgid.model_validate(values).instructed("Who is {name}?") == asked


def test_a_name_reaches_the_teacher_and_nothing_that_is_written(
    tiny_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    method = {"name": "vgid", "instruction": "Forget {name}.", "subject_name": NAME}
    config = UnlearnConfig.model_validate({"method": method, "training": {"steps": 2}, "device": "cpu"})
    assert Teacher(config.method, 0).examples(FORGET.pairs)[0].teacher_question.startswith(f"Forget {NAME}.")
    spec = UnlearnSpec(
        model=str(tiny_folder),
        model_name="tiny",
        forget=FORGET,
        retain=pair_set("retain", 4, first_picture=50),
        out=tmp_path / "out",
        config=config,
    )
    with caplog.at_level(logging.DEBUG):
        unlearn(spec)
    written = b"".join(file.read_bytes() for file in (tmp_path / "out").iterdir())
    assert b"Zenobia" not in written
    assert "Zenobia" not in caplog.text + repr(spec) + str(config) + str(config.model_dump())
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["config"]["method"]["subject_name"] == "**********"
    with pytest.raises(ValidationError, match="give the name again"):
        UnlearnConfig.model_validate(manifest["config"])
