"""The error that `vgid up` and `vgid demo` print."""

from __future__ import annotations


class LocalError(RuntimeError):
    """The local stack can't do what was asked. The message is for a person: it says why, and what to do."""
