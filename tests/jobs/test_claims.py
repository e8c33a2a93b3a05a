"""Claims: each is exclusive, and nothing is written without its token."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from jobs import claims, endings, repository
from jobs.claims import MetricRow
from jobs.clients import access
from jobs.clients.limits import ClientLimits
from jobs.database import make_engine, session_factory
from jobs.settings import Settings
from jobs.states import Kind, Phase, State
from jobs.tables import Artifact, Client
from tests.evidence import FORGOTTEN, MISSED
from tests.jobs.conftest import Ledger
from tests.lines import new_artifact
from vgid_core.progress import Progress

FILES = [{"name": "adapter_config.json", "sha256": "b" * 64, "size": 2}]
ROWS = [MetricRow("forget", "rouge_l", 0.98, 6), MetricRow("retain", "rouge_l", 0.99, 40)]


def take(ledger: Ledger, job_id: UUID) -> UUID:
    with ledger.sessions.begin() as s:
        claim = claims.claim(s, job_id, "worker-1", 30)
    assert claim is not None
    return claim.token


def test_a_claim_starts_an_attempt_with_a_lease(ledger: Ledger) -> None:
    job_id = ledger.submit()
    token = take(ledger, job_id)
    job = ledger.job(job_id)
    assert (job.state, job.phase, job.attempt, job.attempt_token) == (State.running, Phase.loading, 1, token)
    assert job.started_at is not None
    assert job.lease_expires_at is not None
    assert (job.lease_expires_at - job.started_at).total_seconds() == 30


def test_only_one_of_eight_simultaneous_claims_wins(ledger: Ledger) -> None:
    for _ in range(5):
        job_id = ledger.submit_apart()
        start = Barrier(8)

        def claim(number: int, job_id: UUID = job_id, start: Barrier = start) -> bool:
            with ledger.sessions.begin() as s:
                start.wait()
                return claims.claim(s, job_id, f"worker-{number}", 30) is not None

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(claim, range(8)))
        assert sum(won) == 1
        assert ledger.job(job_id).attempt == 1


def test_an_unknown_or_running_job_cant_be_claimed(ledger: Ledger) -> None:
    job_id = ledger.submit()
    take(ledger, job_id)
    with ledger.sessions.begin() as s:
        assert claims.claim(s, job_id, "worker-2", 30) is None
        assert claims.claim(s, uuid4(), "worker-2", 30) is None


def test_a_heartbeat_renews_the_lease_by_the_databases_clock(ledger: Ledger) -> None:
    job_id = ledger.submit()
    token = take(ledger, job_id)
    ledger.turn_back(job_id, "lease_expires_at", 100)
    ledger.turn_back(job_id, "last_progress_at", 100)
    with ledger.sessions.begin() as s:
        beat = claims.heartbeat(s, token, 30)
    job = ledger.job(job_id)
    assert beat.held
    assert not beat.cancel_requested
    assert 100 <= beat.stalled_for < 110
    assert job.started_at is not None
    assert job.lease_expires_at is not None
    assert (job.lease_expires_at - job.started_at).total_seconds() >= 30


def limit_runs(ledger: Ledger, seconds: int) -> None:
    with ledger.sessions.begin() as s:
        access.set_limits(s, s.get_one(Client, ledger.client_id), ClientLimits(run_seconds=seconds))


@pytest.mark.parametrize(("seconds", "too_long"), [(99, False), (101, True)])
def test_a_heartbeat_says_that_a_run_takes_longer_than_its_client_may(
    ledger: Ledger, seconds: int, too_long: bool
) -> None:
    limit_runs(ledger, 100)
    first, *others = ledger.submit(priority=1), ledger.submit(ledger.new_client())
    claim = ledger.claim_next(5)
    assert claim is not None
    ledger.turn_back(first, "leads_since", seconds)
    with ledger.sessions.begin() as s:
        assert [job.id for job in claims.jobs_of_run(s, claim.token)] == [first, *others]
        assert claims.heartbeat(s, claim.token, 30).too_long is too_long


@pytest.mark.parametrize("excused", ["nobody said otherwise", "its training is over", "it is a rebuild"])
def test_a_long_run_goes_on(ledger: Ledger, excused: str) -> None:
    if excused != "nobody said otherwise":
        limit_runs(ledger, 100)
    rebuild = {"kind": Kind.rebuild, "wrapped_data_key": None} if excused == "it is a rebuild" else {}
    job_id = ledger.submit(**rebuild)
    token = take(ledger, job_id)
    ledger.turn_back(job_id, "leads_since", 86_390)
    with ledger.sessions.begin() as s:
        if excused == "its training is over":
            claims.report(s, token, Progress(Phase.packaging))
        assert not claims.heartbeat(s, token, 30).too_long


def test_each_attempt_may_take_as_long(ledger: Ledger) -> None:
    limit_runs(ledger, 100)
    job_id = ledger.submit()
    token = take(ledger, job_id)
    ledger.turn_back(job_id, "leads_since", 99)
    with ledger.sessions.begin() as s:
        claims.release(s, token, max_attempts=3, refund=True, reason="worker_stopping")
    assert ledger.job(job_id).leads_since is None
    token = take(ledger, job_id)
    ledger.turn_back(job_id, "leads_since", 99)
    with ledger.sessions.begin() as s:
        assert not claims.heartbeat(s, token, 30).too_long


def test_a_frozen_attempt_locks_its_row_for_one_lease_at_most(ledger: Ledger, settings: Settings) -> None:
    """An attempt may freeze in the middle of a report. Heartbeats, cancellations and the reaper would wait for ever."""
    job_id = ledger.submit()
    token = take(ledger, job_id)
    engine = make_engine(settings.model_copy(update={"lease_seconds": 0.2}))
    frozen = session_factory(engine)()
    assert claims.report(frozen, token, Progress(Phase.distilling, 1, 2, 0.5))
    with ledger.sessions.begin() as s:
        assert claims.heartbeat(s, token, 30).held
    with pytest.raises(DBAPIError):
        frozen.commit()
    frozen.close()
    engine.dispose()
    assert ledger.job(job_id).phase is Phase.loading


def test_a_heartbeat_says_that_a_cancellation_was_requested(ledger: Ledger) -> None:
    job_id = ledger.submit()
    token = take(ledger, job_id)
    with ledger.sessions.begin() as s:
        repository.request_cancel(s, ledger.client_id, job_id)
        assert claims.heartbeat(s, token, 30).cancel_requested


def test_a_stale_token_writes_nothing(ledger: Ledger) -> None:
    job_id = ledger.submit()
    stale = take(ledger, job_id)
    with ledger.sessions.begin() as s:
        claims.release(s, stale, max_attempts=3, refund=False, reason="crashed")
    take(ledger, job_id)
    before = vars(ledger.job(job_id)).copy()
    with ledger.sessions.begin() as s:
        assert not claims.heartbeat(s, stale, 30).held
        assert not claims.report(s, stale, Progress(Phase.packaging, fraction=0.99))
        assert not claims.save_metrics(s, job_id, stale, "before", ROWS)
        assert endings.finish(s, job_id, stale, new_artifact(s, job_id)) is None
        assert endings.fail(s, stale, "out_of_memory", "The accelerator's memory is full.") is None
        assert claims.cancelled(s, stale) is None
        assert claims.release(s, stale, max_attempts=3, refund=True, reason="shutdown") is None
    after = vars(ledger.job(job_id)).copy()
    del before["_sa_instance_state"], after["_sa_instance_state"]
    assert before == after
    with ledger.sessions.begin() as s:
        assert repository.metrics_of(s, job_id) == []
        assert s.get(Artifact, job_id) is None


def test_progress_is_written_at_most_once_a_second_but_phases_always(ledger: Ledger) -> None:
    job_id = ledger.submit()
    token = take(ledger, job_id)
    with ledger.sessions.begin() as s:
        assert claims.report(s, token, Progress(Phase.distilling, 1, 60, 0.3, 2.0, 0.1, seconds_left=9.0))
        for step in range(2, 30):
            assert claims.report(s, token, Progress(Phase.distilling, step, 60, 0.3, 1.9, 0.1))
    assert [event["step"] for event in ledger.history(job_id, "progress")] == [1]
    job = ledger.job(job_id)
    assert job.estimated_finish_at is not None
    assert job.last_progress_at is not None
    assert (job.estimated_finish_at - job.last_progress_at).total_seconds() == 9
    ledger.turn_back(job_id, "last_progress_at", 1)
    with ledger.sessions.begin() as s:
        claims.report(s, token, Progress(Phase.distilling, 30, 60, 0.5, 1.5, 0.1))
        claims.report(s, token, Progress(Phase.evaluating, 60, 60, 0.9, 1.5, 0.1))
    assert [event["step"] for event in ledger.history(job_id, "progress")] == [1, 30, 60]
    assert [event["phase"] for event in ledger.history(job_id, "phase")] == ["loading", "distilling", "evaluating"]


def test_a_diverged_run_can_still_report(ledger: Ledger) -> None:
    job_id = ledger.submit()
    token = take(ledger, job_id)
    with ledger.sessions.begin() as s:
        claims.report(s, token, Progress(Phase.distilling, 1, 60, 1.7, math.nan, math.inf, math.inf))
    job = ledger.job(job_id)
    assert (job.progress, job.loss_forget, job.loss_retain, job.estimated_finish_at) == (1.0, None, None, None)


def test_metrics_of_a_new_attempt_replace_the_old_ones(ledger: Ledger) -> None:
    job_id = ledger.submit()
    first = take(ledger, job_id)
    with ledger.sessions.begin() as s:
        claims.save_metrics(s, job_id, first, "before", ROWS)
        claims.save_metrics(s, job_id, first, "after", ROWS)
        claims.release(s, first, max_attempts=3, refund=False, reason="crashed")
    second = take(ledger, job_id)
    with ledger.sessions.begin() as s:
        claims.save_metrics(s, job_id, second, "before", [MetricRow("forget", "rouge_l", 0.5, 6)])
        stored = [(m.stage, m.split, m.value) for m in repository.metrics_of(s, job_id)]
    assert stored == [("before", "forget", 0.5)]
    assert len(ledger.history(job_id, "metrics")) == 3  # the history keeps superseded attempts


def test_success_stores_the_artifact_and_drops_the_key(ledger: Ledger) -> None:
    job_id = ledger.submit()
    token = take(ledger, job_id)
    with ledger.sessions.begin() as s:
        assert (
            endings.finish(s, job_id, token, new_artifact(s, job_id, files=FILES, manifest={"seed": 0}))
            is State.succeeded
        )
    job = ledger.job(job_id)
    assert (job.state, job.progress, job.phase) == (State.succeeded, 1.0, None)
    assert (job.wrapped_data_key, job.attempt_token, job.lease_expires_at) == (None, None, None)
    assert job.finished_at is not None
    with ledger.sessions.begin() as s:
        artifact = s.get(Artifact, job_id)
    assert artifact is not None
    assert artifact.files == FILES


def test_a_verdict_decides_how_a_job_with_an_adapter_ends(ledger: Ledger) -> None:
    for evidence, state, outcome in (
        (FORGOTTEN, State.succeeded, "forgotten"),
        (MISSED, State.failed, "targets-not-met"),
    ):
        job_id = ledger.submit()
        token = take(ledger, job_id)
        with ledger.sessions.begin() as s:
            assert endings.finish(s, job_id, token, new_artifact(s, job_id, evidence)) is state
        job = ledger.job(job_id)
        assert (job.state, job.outcome, job.progress) == (state, outcome, 1.0)
        assert (job.wrapped_data_key, job.attempt_token) == (None, None)
        assert job.verdict is not None
        assert [each["figure"] for each in job.verdict["missed"]] == ["generated.rouge_l"][
            : outcome == "targets-not-met"
        ]
        with ledger.sessions.begin() as s:
            assert s.get_one(Artifact, job_id).sha256 == "a" * 64
            assert repository.evidence_of(s, job_id) == evidence
    assert job.error_type == "targets-not-met"
    assert str(job.error_detail).startswith("generated.rouge_l of forget is 0.64 (0.61 above control), at most 0.20 is")
    assert ledger.history(job_id)[-1] == {"state": "failed", "attempt": 1, "error_type": "targets-not-met"}


def test_nothing_to_forget_is_an_outcome_of_its_own(ledger: Ledger) -> None:
    for error_type, outcome in (("nothing-to-forget", "nothing-to-forget"), ("common-knowledge", None)):
        job_id = ledger.submit()
        token = take(ledger, job_id)
        with ledger.sessions.begin() as s:
            assert endings.fail(s, token, error_type, "There is nothing to forget.") is State.failed
        job = ledger.job(job_id)
        assert (job.outcome, job.verdict, job.error_type) == (outcome, None, error_type)


@pytest.mark.parametrize(
    ("state", "outcome", "constraint"),
    [
        ("succeeded", "targets-not-met", "success_is_forgotten"),
        ("succeeded", "nothing-to-forget", "success_is_forgotten"),
        ("failed", "forgotten", "forgotten_is_success"),
        ("cancelled", "forgotten", "forgotten_is_success"),
    ],
)
def test_no_job_succeeds_against_its_verdict(ledger: Ledger, state: str, outcome: str, constraint: str) -> None:
    job_id = ledger.submit()
    statement = text(
        "UPDATE jobs SET state = :state, outcome = :outcome, finished_at = now(), wrapped_data_key = NULL, "
        "error_type = :error WHERE id = :id"
    )
    values = {"state": state, "outcome": outcome, "error": "slug" if state == "failed" else None, "id": job_id}
    with pytest.raises(IntegrityError, match=constraint), ledger.sessions.begin() as s:
        s.execute(statement, values)


def test_an_earlier_cancellation_beats_success(ledger: Ledger) -> None:
    job_id = ledger.submit()
    token = take(ledger, job_id)
    with ledger.sessions.begin() as s:
        repository.request_cancel(s, ledger.client_id, job_id)
        artifact = new_artifact(s, job_id, FORGOTTEN)
        assert endings.finish(s, job_id, token, artifact) is State.cancelled
        assert s.get(Artifact, job_id) is None
    assert (ledger.job(job_id).outcome, ledger.job(job_id).verdict) == (None, None)


def test_failure_says_why_and_drops_the_key(ledger: Ledger) -> None:
    job_id = ledger.submit()
    token = take(ledger, job_id)
    with ledger.sessions.begin() as s:
        assert endings.fail(s, token, "out_of_memory", "The accelerator's memory is full.") is State.failed
    job = ledger.job(job_id)
    assert (job.error_type, job.wrapped_data_key) == ("out_of_memory", None)
    assert ledger.history(job_id)[-1] == {"state": "failed", "attempt": 1, "error_type": "out_of_memory"}


def test_an_error_type_is_a_slug(ledger: Ledger) -> None:
    job_id = ledger.submit()
    token = take(ledger, job_id)
    with ledger.sessions.begin() as s, pytest.raises(ValueError, match="slug"):
        endings.fail(s, token, "Traceback: Ada Lovelace", "")


@pytest.mark.parametrize(("refund", "attempt"), [(True, 0), (False, 1)])
def test_a_released_job_starts_over(ledger: Ledger, refund: bool, attempt: int) -> None:
    job_id = ledger.submit()
    token = take(ledger, job_id)
    with ledger.sessions.begin() as s:
        claims.report(s, token, Progress(Phase.distilling, 7, 60, 0.4, 1.0, 1.0, 4.0))
        state = claims.release(s, token, max_attempts=3, refund=refund, reason="shutdown")
    job = ledger.job(job_id)
    assert (state, job.attempt, job.phase, job.step, job.progress) == (State.queued, attempt, None, 0, 0.0)
    assert job.wrapped_data_key is not None
    assert ledger.history(job_id)[-1] == {"state": "queued", "attempt": attempt, "reason": "shutdown"}


def test_a_crash_of_the_last_attempt_ends_the_job(ledger: Ledger) -> None:
    job_id = ledger.submit()
    for expected in (State.queued, State.queued, State.failed):
        token = take(ledger, job_id)
        with ledger.sessions.begin() as s:
            assert claims.release(s, token, max_attempts=3, refund=False, reason="crashed") is expected
    job = ledger.job(job_id)
    assert (job.error_type, job.attempt) == ("attempts-exhausted", 3)
    assert job.error_detail == "Given up after 3 attempts, the last one lost to: crashed."


def test_a_released_job_is_cancelled_if_that_was_requested(ledger: Ledger) -> None:
    job_id = ledger.submit()
    token = take(ledger, job_id)
    with ledger.sessions.begin() as s:
        repository.request_cancel(s, ledger.client_id, job_id)
        state = claims.release(s, token, max_attempts=3, refund=True, reason="shutdown")
    assert state is State.cancelled
