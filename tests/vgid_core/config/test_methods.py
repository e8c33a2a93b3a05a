"""Method settings: VGID's instruction and subject name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from vgid_core.config import UnlearnConfig
from vgid_core.config.methods import Vgid

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "interventions.md"
NAME = "Zenobia Quillfeather"


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


def test_the_pages_settings_are_settings() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        exec(block, {})


def test_the_instruction_goes_before_the_question() -> None:
    assert Vgid(instruction="Forget.").instructed("Who is this?") == "Forget. Who is this?"
    assert Vgid(instruction="").instructed("Who is this?") == "Who is this?"
