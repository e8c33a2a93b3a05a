"""The one base of everything that is told to a run."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Settings that can't be changed, know no unknown field and hold no infinity.

    Errors don't repeat what was given: it may name a person.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)
