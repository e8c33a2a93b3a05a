"""Progress reports of a run: phases, steps, losses and the time left."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """The phases of a run, in their order."""

    loading = "loading"
    baseline = "baseline"
    distilling = "distilling"
    evaluating = "evaluating"
    packaging = "packaging"


# The fraction of the whole run at which each phase starts.
_STARTS = {
    Phase.loading: 0.0,
    Phase.baseline: 0.1,
    Phase.distilling: 0.25,
    Phase.evaluating: 0.83,
    Phase.packaging: 0.98,
}
# The same of a run without a training.
_STARTS_WITHOUT_STEPS = {Phase.loading: 0.0, Phase.baseline: 0.1, Phase.evaluating: 0.4}


@dataclass(frozen=True)
class Progress:
    """One report.

    fraction: of the whole run, 0 to 1. Losses are means over answer tokens, in nats. gradient_norm: of the last step,
    before clipping. learning_rate: of the last step.
    """

    phase: Phase
    step: int = 0
    total_steps: int = 0
    fraction: float = 0.0
    loss_forget: float | None = None
    loss_retain: float | None = None
    seconds_left: float | None = None
    gradient_norm: float | None = None
    learning_rate: float | None = None


class ProgressTracker:
    """Turns phases and steps into reports, and estimates the time left from measured durations.

    total_steps: 0 for a run that only measures.
    """

    def __init__(self, total_steps: int, on_step: Callable[[Progress], None] | None) -> None:
        self._total_steps = total_steps
        self._starts = _STARTS if total_steps else _STARTS_WITHOUT_STEPS
        self._on_step = on_step
        self._phase = Phase.loading
        self._entered = time.monotonic()
        self._durations: dict[Phase, float] = {}
        self._step = 0
        self._pace_start: tuple[float, float] | None = None  # a time, and the share of the steps done by then
        self._losses: tuple[float | None, float | None] = (None, None)
        self._norm_and_rate: tuple[float | None, float | None] = (None, None)

    def enter(self, phase: Phase) -> None:
        """Enters `phase` and reports it."""
        now = time.monotonic()
        self._durations[self._phase] = now - self._entered
        self._phase, self._entered = phase, now
        self._report(0.0)

    def restart(self, total_steps: int) -> None:
        """Begins a training of so many steps, which may be another one after the first."""
        self._total_steps, self._step, self._pace_start = total_steps, 0, None

    def update(self, share: float) -> None:
        """Reports that `share` (0 to 1) of the current phase is done."""
        self._report(share)

    def step_done(
        self,
        step: int,
        loss_forget: float | None,
        loss_retain: float | None,
        gradient_norm: float | None = None,
        learning_rate: float | None = None,
    ) -> None:
        """Reports training step `step` (1-based) with its losses, gradient norm and learning rate."""
        if self._pace_start is None:
            # A resumed run first replays its caches, which says nothing about the pace of its steps.
            self._pace_start = (self._entered, 0.0) if step == 1 else (time.monotonic(), step / self._total_steps)
        self._step, self._losses = step, (loss_forget, loss_retain)
        self._norm_and_rate = (gradient_norm, learning_rate)
        self._report(step / self._total_steps)

    def _report(self, share: float) -> None:
        if self._on_step is None:
            return
        starts = [*self._starts.values(), 1.0]
        index = list(self._starts).index(self._phase)
        fraction = starts[index] + share * (starts[index + 1] - starts[index])
        left = self._seconds_left(share)
        done = (self._step, self._total_steps, fraction)
        self._on_step(Progress(self._phase, *done, *self._losses, left, *self._norm_and_rate))

    def _seconds_left(self, share: float) -> float | None:
        """The rest of the steps at their measured pace, plus a second evaluation as long as the first.

        None while no pace is measured.
        """
        now = time.monotonic()
        baseline = self._durations.get(Phase.baseline)
        if self._phase is Phase.distilling and self._pace_start is not None and baseline is not None:
            since, before = self._pace_start
            return (now - since) * (1 - share) / (share - before) + baseline if share > before else None
        if self._phase is Phase.evaluating and baseline is not None:
            return max(0.0, baseline - (now - self._entered))
        return 0.0 if self._phase is Phase.packaging else None


class PhaseTimer:
    """Measures the seconds of each phase and passes phases on to the tracker. A phase entered again adds up."""

    def __init__(self, tracker: ProgressTracker) -> None:
        self._tracker = tracker
        self._marks: list[tuple[Phase, float]] = []

    def enter(self, phase: Phase) -> None:
        """Begins the phase."""
        self._marks.append((phase, time.monotonic()))
        self._tracker.enter(phase)

    def seconds(self) -> dict[str, float]:
        """The duration of each phase so far by name; the last phase up to now."""
        found: dict[str, float] = {}
        ends = [*(start for _, start in self._marks[1:]), time.monotonic()]
        for (phase, start), end in zip(self._marks, ends, strict=True):
            found[str(phase)] = found.get(str(phase), 0.0) + end - start
        return found
