"""How long a forget request is likely to take once it runs, by its steps and pairs and what the model's last ones took.

A run's seconds are taken for a sum of three parts: one that is always the same (loading), one a step, and one a pair
(audits). How much of a usual run each part is, is searched among some fifty mixes: the one by which the last runs'
seconds differ least from each other, per unit of what they had to do. Medians and absolute differences of logarithms
keep a run that was interrupted from deciding anything. What too few runs leave open is taken as `_GUESS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from statistics import median
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from jobs.states import Kind, State
from jobs.tables import Job

_LAST_JOBS = 40  # rows that are read: those of one run are one
_LEAST_SECONDS = 0.001
_GUESS_WEIGHT = 0.1


class Took(NamedTuple):
    """A run that has ended well. pairs: to forget, of all its requests. seconds: from its first start to its end."""

    steps: int
    pairs: int
    seconds: float


class _Mix(NamedTuple):
    """Shares of a usual run's seconds, which add up to 1. A step always costs something."""

    fixed: float
    steps: float
    pairs: float


_GUESS = _Mix(0.2, 0.6, 0.2)
_MIXES = [
    _Mix((10 - steps - pairs) / 10, steps / 10, pairs / 10) for steps in range(1, 11) for pairs in range(11 - steps)
]


def expected_seconds(s: Session, model: str, steps: int, pairs: int) -> float | None:
    """How long such a request is likely to take. None if the model has forgotten nobody yet."""
    return estimate(_last_runs(s, model), steps, pairs)


def estimate(runs: Sequence[Took], steps: int, pairs: int) -> float | None:
    """Seconds, in two digits. More steps or more pairs never take less. None without runs."""
    if not runs:
        return None
    usual_steps, usual_pairs = median(run.steps for run in runs), median(run.pairs for run in runs)

    def work(mix: _Mix, steps: int, pairs: int) -> float:
        return mix.fixed + mix.steps * steps / usual_steps + mix.pairs * pairs / usual_pairs

    def misfit(mix: _Mix) -> float:
        paces = [log(run.seconds / work(mix, run.steps, run.pairs)) for run in runs]
        middle = median(paces)
        from_guess = sum(abs(share - guess) for share, guess in zip(mix, _GUESS, strict=True))
        return sum(abs(pace - middle) for pace in paces) + _GUESS_WEIGHT * from_guess

    mix = min(_MIXES, key=misfit)
    pace = median(run.seconds / work(mix, run.steps, run.pairs) for run in runs)
    return float(f"{pace * work(mix, steps, pairs):.2g}")


def _last_runs(s: Session, model: str) -> list[Took]:
    """The model's last runs of requests. Those of which the job that led them isn't among the rows are left out."""
    seconds = func.extract("epoch", Job.finished_at - Job.started_at)
    rows = s.execute(
        select(Job.id, Job.run_of, Job.planned_steps, Job.forget_pairs, seconds)
        .where(Job.state == State.succeeded, Job.model == model, Job.kind == Kind.unlearn, Job.planned_steps > 0)
        .order_by(Job.finished_at.desc())
        .limit(_LAST_JOBS)
    ).all()
    pairs: dict[UUID, int] = {}
    for job_id, run_of, _, forget_pairs, _ in rows:
        pairs[run_of or job_id] = pairs.get(run_of or job_id, 0) + forget_pairs
    return [
        Took(steps, max(pairs[job_id], 1), max(float(took), _LEAST_SECONDS))
        for job_id, run_of, steps, _, took in rows
        if run_of is None
    ]
