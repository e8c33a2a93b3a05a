"""Evaluations in the ledger: how they end, whose adapter they may name, and what else stays apart."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from jobs import claims, endings, repository
from jobs.job_lists import JobFilter, count_jobs, list_page
from jobs.queueing.durations import expected_seconds
from jobs.queueing.forecast import forecast
from jobs.states import Kind, State
from jobs.tables import Artifact
from tests.evidence import FORGOTTEN, MISSED
from tests.jobs.conftest import Ledger
from tests.lines import new_artifact

NOTHING = {
    **FORGOTTEN,
    "verdict": {"outcome": "nothing-to-forget", "passed": False, "targets": [], "unmeasured": ["everything else"]},
}


def claim(ledger: Ledger, job_id: UUID) -> UUID:
    with ledger.sessions.begin() as s:
        claimed = claims.claim(s, job_id, "test", 30)
    assert claimed is not None
    return claimed.token


def measured(ledger: Ledger, evidence: dict[str, Any]) -> UUID:
    job_id = ledger.submit(kind=Kind.evaluate)
    token = claim(ledger, job_id)
    with ledger.sessions.begin() as s:
        assert endings.finish_evaluation(s, job_id, token, evidence) is State.succeeded
        assert endings.finish_evaluation(s, job_id, token, evidence) is None, "the token is gone"
    return job_id


@pytest.mark.parametrize("evidence", [FORGOTTEN, MISSED, NOTHING], ids=lambda each: each["verdict"]["outcome"])
def test_an_evaluation_succeeds_by_measuring(ledger: Ledger, evidence: dict[str, Any]) -> None:
    job_id = measured(ledger, evidence)
    job = ledger.job(job_id)
    assert (job.state, job.outcome, job.error_type, job.progress) == (
        State.succeeded, evidence["verdict"]["outcome"], None, 1.0
    )  # fmt: skip
    assert (job.wrapped_data_key, job.attempt_token) == (None, None)
    assert job.verdict is not None
    assert len(job.verdict["missed"]) == (1 if evidence is MISSED else 0)
    with ledger.sessions.begin() as s:
        assert repository.evidence_of(s, job_id) == evidence
        assert s.get(Artifact, job_id) is None
    assert [each["state"] for each in ledger.history(job_id)] == ["queued", "running", "succeeded"]


def test_an_earlier_cancellation_beats_what_was_measured(ledger: Ledger) -> None:
    job_id = ledger.submit(kind=Kind.evaluate)
    token = claim(ledger, job_id)
    with ledger.sessions.begin() as s:
        assert repository.request_cancel(s, ledger.client_id, job_id) is None, "it is of the other kind"
        repository.request_cancel(s, ledger.client_id, job_id, Kind.evaluate)
        assert endings.finish_evaluation(s, job_id, token, FORGOTTEN) is State.cancelled
        assert repository.evidence_of(s, job_id) is None
    assert ledger.job(job_id).outcome is None


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("state = 'succeeded', finished_at = now(), wrapped_data_key = NULL", "success_is_measured"),
        ("outcome = 'targets-not-met'", "success_is_measured"),
        ("kind = 'unlearn', adapter_of = id", "adapter_of_evaluation"),
        ("kind = 'train'", "kind"),
        ("adapter_of = gen_random_uuid()", "fk_jobs_adapter_of"),
    ],
)
def test_the_ledger_refuses_other_evaluations(ledger: Ledger, change: str, constraint: str) -> None:
    job_id = ledger.submit(kind=Kind.evaluate)
    with pytest.raises(IntegrityError, match=constraint), ledger.sessions.begin() as s:
        s.execute(text(f"UPDATE jobs SET {change} WHERE id = :id"), {"id": job_id})


def test_no_evaluation_names_another_clients_job(ledger: Ledger) -> None:
    theirs = ledger.submit(ledger.new_client())
    with pytest.raises(IntegrityError, match="fk_jobs_adapter_of"):
        ledger.submit(kind=Kind.evaluate, adapter_of=theirs)


def test_only_a_job_that_forgets_has_an_adapter(ledger: Ledger) -> None:
    waiting, done, evaluation = ledger.submit(), ledger.submit(model="other"), measured(ledger, FORGOTTEN)
    token = claim(ledger, done)
    with ledger.sessions.begin() as s:
        endings.finish(s, done, token, new_artifact(s, done, MISSED))
    with ledger.sessions.begin() as s:
        assert repository.adapter_of(s, ledger.client_id, waiting) == ("demo", None)
        assert repository.adapter_of(s, ledger.client_id, done) == ("other", "a" * 64)
        assert repository.adapter_of(s, ledger.client_id, evaluation) is None
        assert repository.adapter_of(s, ledger.new_client(), done) is None


def test_lists_and_durations_are_of_one_kind(ledger: Ledger) -> None:
    forgets, evaluation = ledger.submit(), measured(ledger, FORGOTTEN)
    ledger.turn_back(evaluation, "started_at", 40)
    queued = ledger.submit(kind=Kind.evaluate)
    with ledger.sessions.begin() as s:
        for kind, expected in ((Kind.unlearn, [forgets]), (Kind.evaluate, [queued, evaluation])):
            wanted = JobFilter(kind=kind)
            assert [job.id for job in list_page(s, ledger.client_id, wanted)[0]] == expected
            assert count_jobs(s, ledger.client_id, wanted) == len(expected)
        assert expected_seconds(s, "demo", 60, 5) is None, "nothing has been forgotten yet"
    claim(ledger, forgets)
    waiting = ledger.job(queued)
    with ledger.sessions.begin() as s:
        assert forecast(s, waiting).starts_at is not None, "evaluations took 40 s"
