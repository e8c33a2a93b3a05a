"""What a run tells while it goes: phases, steps, losses and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """Where a run is. The order of the members is the order of the run."""

    loading = "loading"
    baseline = "baseline"
    distilling = "distilling"
    evaluating = "evaluating"
    packaging = "packaging"


# Share of a whole run that each phase starts at, for one fraction over all of them.
_STARTS = {
    Phase.loading: 0.0,
    Phase.baseline: 0.1,
    Phase.distilling: 0.25,
    Phase.evaluating: 0.83,
    Phase.packaging: 0.98,
}


@dataclass(frozen=True)
class Progress:
    """One report. `fraction` is of the whole run, 0 to 1; losses are per answer token, in nats.

    gradient_norm (before clipping) and learning_rate are those of the last step.
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
    """Turns phase changes and steps into reports, with an estimate of the time left from what was measured so far."""

    def __init__(self, total_steps: int, on_step: Callable[[Progress], None] | None) -> None:
        self._total_steps = total_steps
        self._on_step = on_step
        self._phase = Phase.loading
        self._entered = time.monotonic()
        self._durations: dict[Phase, float] = {}
        self._step = 0
        self._paced_from: tuple[float, float] | None = None  # a moment, and the share of the steps done by then
        self._losses: tuple[float | None, float | None] = (None, None)
        self._update: tuple[float | None, float | None] = (None, None)

    def enter(self, phase: Phase) -> None:
        """Starts `phase` and reports it."""
        now = time.monotonic()
        self._durations[self._phase] = now - self._entered
        self._phase, self._entered = phase, now
        self._report(0.0)

    def within(self, share: float) -> None:
        """Reports that `share` (0 to 1) of the present phase is done."""
        self._report(share)

    def step_done(
        self,
        step: int,
        loss_forget: float | None,
        loss_retain: float | None,
        gradient_norm: float | None = None,
        learning_rate: float | None = None,
    ) -> None:
        """Reports training step `step` (1-based) with its losses, and the norm and rate of its update."""
        if self._paced_from is None:
            # What was prepared anew before the first step of a run that goes on isn't shared by the steps before it.
            self._paced_from = (self._entered, 0.0) if step == 1 else (time.monotonic(), step / self._total_steps)
        self._step, self._losses = step, (loss_forget, loss_retain)
        self._update = (gradient_norm, learning_rate)
        self._report(step / self._total_steps)

    def _report(self, share: float) -> None:
        if self._on_step is None:
            return
        starts = [*_STARTS.values(), 1.0]
        index = list(_STARTS).index(self._phase)
        fraction = starts[index] + share * (starts[index + 1] - starts[index])
        left = self._seconds_left(share)
        done = (self._step, self._total_steps, fraction)
        self._on_step(Progress(self._phase, *done, *self._losses, left, *self._update))

    def _seconds_left(self, share: float) -> float | None:
        """Measured pace of the steps, plus a second evaluation as long as the first; None until there is a pace."""
        now = time.monotonic()
        baseline = self._durations.get(Phase.baseline)
        if self._phase is Phase.distilling and self._paced_from is not None and baseline is not None:
            since, before = self._paced_from
            return (now - since) * (1 - share) / (share - before) + baseline if share > before else None
        if self._phase is Phase.evaluating and baseline is not None:
            return max(0.0, baseline - (now - self._entered))
        return 0.0 if self._phase is Phase.packaging else None
