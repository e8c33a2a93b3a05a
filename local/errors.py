"""The one error of this room."""

from __future__ import annotations


class LocalError(RuntimeError):
    """The local stack can't do what was asked; the text says why and what to do, and is meant for a person."""
