"""Durations and sizes."""

from __future__ import annotations

import pytest

from terminal.units import duration, size


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (17, "17 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7140, "119 min"),
        (16980, "4 h 43 min"),
    ],
)
def test_a_duration_has_two_units_at_most(seconds: float, written: str) -> None:
    assert duration(seconds) == written


@pytest.mark.parametrize(
    ("count", "written"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 KB"), (2.5e9, "2.5 GB"), (3e15, "3000.0 TB")]
)
def test_a_size_has_a_suitable_unit(count: float, written: str) -> None:
    assert size(count) == written
