"""How long a request is likely to take: it follows steps and pairs, and what the model's last runs took."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import endings
from jobs.queueing.durations import Took, estimate, expected_seconds
from jobs.states import State
from tests.evidence import FORGOTTEN
from tests.jobs.conftest import Ledger
from tests.lines import new_artifact

SIZES = st.integers(1, 5000)
RUNS = st.lists(st.builds(Took, SIZES, SIZES, st.floats(0.001, 1e6)), min_size=1, max_size=40)


@given(runs=RUNS, steps=SIZES, pairs=SIZES, more=st.tuples(st.integers(0, 5000), st.integers(0, 5000)))
def test_more_steps_or_pairs_never_take_less(runs: list[Took], steps: int, pairs: int, more: tuple[int, int]) -> None:
    less = estimate(runs, steps, pairs)
    assert less is not None
    assert less > 0
    assert estimate(runs, steps + more[0], pairs + more[1]) >= less
    assert estimate(runs, 3 * steps, pairs) >= less


@given(steps=SIZES, pairs=SIZES, seconds=st.floats(1, 1e5))
def test_one_run_tells_what_its_like_takes_and_that_twice_as_much_takes_longer(
    steps: int, pairs: int, seconds: float
) -> None:
    run = Took(steps, pairs, seconds)
    assert estimate([run], steps, pairs) == pytest.approx(seconds, rel=0.06)
    assert 1.3 * seconds < estimate([run], 2 * steps, pairs) < 2 * seconds
    assert seconds < estimate([run], steps, 2 * pairs) < 1.5 * seconds
    assert estimate([], steps, pairs) is None


@pytest.mark.parametrize(("fixed", "step", "pair"), [(5, 0.1, 0.2), (20, 0.02, 0.05), (1, 0.5, 0), (3, 0.05, 1)])
def test_what_a_step_and_a_pair_take_is_found_though_some_runs_were_interrupted(
    fixed: float, step: float, pair: float
) -> None:
    def took(steps: int, pairs: int) -> float:
        return fixed + step * steps + pair * pairs

    sizes = [(steps, pairs) for steps in (30, 60, 100, 200) for pairs in (2, 10, 25, 60)]
    runs = [Took(steps, pairs, took(steps, pairs)) for steps, pairs in sizes]
    runs[3] = runs[3]._replace(seconds=40 * runs[3].seconds)
    runs[11] = runs[11]._replace(seconds=7 * runs[11].seconds)
    for steps, pairs in ((45, 40), (150, 5), (400, 10), (100, 25)):
        assert estimate(runs, steps, pairs) == pytest.approx(took(steps, pairs), rel=0.25)


def ended(ledger: Ledger, seconds: float, *pairs: int, steps: int) -> None:
    """A run of requests of so many pairs each that took so long."""
    jobs = [ledger.submit(forget_pairs=each, planned_steps=steps) for each in pairs]
    claim = ledger.claim_next(len(jobs))
    assert claim is not None
    with ledger.sessions.begin() as s:
        made = {job_id: new_artifact(s, job_id, FORGOTTEN, sha256=job_id.hex * 2) for job_id in jobs}
        own = made.pop(claim.job.id)
        assert endings.finish(s, claim.job.id, claim.token, own, made) is State.succeeded
    for job_id in jobs:
        ledger.turn_back(job_id, "started_at", seconds)


def test_the_ledger_tells_it_by_the_models_last_runs(ledger: Ledger) -> None:
    def told(steps: int = 60, pairs: int = 3, model: str = "demo") -> float | None:
        with ledger.sessions() as s:
            return expected_seconds(s, model, steps, pairs)

    assert told() is None
    ended(ledger, 100, 3, steps=60)
    assert (told(), told(model="other")) == (100, None)
    assert told(steps=120) > 150
    assert 100 < told(pairs=6) < 150
    ended(ledger, 250, 3, steps=180)
    assert told(steps=180) == pytest.approx(250, rel=0.1)
    assert told() == pytest.approx(100, rel=0.1)


def test_requests_that_were_run_together_count_as_one_run_of_all_their_pairs(ledger: Ledger) -> None:
    for _ in range(3):
        ended(ledger, 100, 10, 10, 10, steps=60)
    with ledger.sessions() as s:
        alone, all_three = (expected_seconds(s, "demo", 60, pairs) for pairs in (10, 30))
    assert all_three == 100
    assert alone is not None
    assert alone < 100
