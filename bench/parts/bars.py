"""How a bench ends that judges its figures."""

from __future__ import annotations

import sys
from collections.abc import Sequence

# Not Python's own exit codes: a traceback or a message ends a process with 1, wrong usage with 2.
MISSED = 3


def exit_if_missed(missed: Sequence[str]) -> None:
    """Prints the bars that were missed, one a line, and exits with MISSED; returns if there are none."""
    if missed:
        print(*(f"missed: {each}" for each in missed), sep="\n", file=sys.stderr)
        raise SystemExit(MISSED)
