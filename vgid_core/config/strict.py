"""The base class of all settings."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Immutable settings without unknown fields, infinity or NaN.

    Validation errors don't repeat the input, since it can name a person.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)
