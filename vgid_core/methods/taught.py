"""What VGID's methods have in common: a teacher that is shown a disturbed image and given an instruction."""

from __future__ import annotations

import re
from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator

from vgid_core.intervention import PerturbationConfig
from vgid_core.methods.base import Method

IMPERATIVE = "You must forget everything about this person."

_PLACEHOLDER = re.compile(r"\{(\w+)\}")


class Taught(Method):
    """Settings of the teacher's two interventions (VGID, arXiv 2606.00105, sec. 3).

    `instruction` may be empty, which leaves the visual half alone.
    """

    perturbation: PerturbationConfig = PerturbationConfig()
    instruction: str = Field(
        default=IMPERATIVE,
        max_length=500,
        description="goes before the question, or around it where it says {question}; {name} is the subject's name",
    )
    subject_name: SecretStr | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="stands for {name} in the instruction; written nowhere, a dump of these settings has asterisks",
    )

    @field_validator("subject_name")
    @classmethod
    def _a_name(cls, value: SecretStr | None) -> SecretStr | None:
        name = "?" if value is None else value.get_secret_value()
        if not name.strip() or not name.isprintable():
            raise ValueError("must be one line that isn't blank")
        if not name.strip("*"):
            raise ValueError("holds asterisks in the name's place, as a dump of settings does: give the name again")
        return value

    @model_validator(mode="after")
    def _placeholders_are_known(self) -> Self:
        used = set(_PLACEHOLDER.findall(self.instruction))
        if used - {"question", "name"}:
            raise ValueError("instruction takes no placeholders but {question} and {name}")
        if ("name" in used) != (self.subject_name is not None):
            raise ValueError("instruction with {name} and subject_name need each other")
        return self

    @property
    def texts(self) -> dict[str, str]:
        """As `Method.texts`: what a subject's name makes of the instruction, too."""
        return {"method.instruction": self.instructed("")}

    @property
    def fixed_draws(self) -> int | None:
        """How many disturbed images there are of each; None where every one is new."""
        return None if self.perturbation.is_random or self.perturbation.changes else 1

    def instructed(self, question: str) -> str:
        """The teacher's question: the instruction prepended (u + q in the paper) or around it, or `question` alone."""
        if not self.instruction:
            return question
        name = "" if self.subject_name is None else self.subject_name.get_secret_value()
        template = self.instruction if "{question}" in self.instruction else f"{self.instruction} {{question}}"
        return _PLACEHOLDER.sub(lambda found: question if found[1] == "question" else name, template)
