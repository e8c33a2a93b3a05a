"""Progress reports: the time left."""

from __future__ import annotations

import pytest

from vgid_core import Phase, Progress
from vgid_core.progress import ProgressTracker


def test_the_time_left_counts_from_where_a_run_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("vgid_core.progress.time.monotonic", lambda: now[0])
    reports: list[Progress] = []
    tracker = ProgressTracker(100, reports.append)
    for phase, seconds in {Phase.baseline: 7.0, Phase.distilling: 4.0}.items():
        tracker.enter(phase)
        now[0] += seconds
    for step in (81, 82, 83):
        tracker.step_done(step, 1.0, 1.0)
        now[0] += 2.0
    assert [progress.seconds_left for progress in reports[-3:]] == [
        None,
        pytest.approx(2 * 18 + 7),
        pytest.approx(2 * 17 + 7),
    ]
