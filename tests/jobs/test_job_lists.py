"""The lists of a client's jobs: its own alone, filtered, in four orders, in pages that cover every job once."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any, get_args
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import event, text

from jobs import repository
from jobs.job_lists import InvalidCursor, JobFilter, Sort, count_jobs, list_page
from jobs.states import State
from tests.jobs.conftest import Ledger

MAY = datetime(2031, 5, 1, tzinfo=UTC)


def pages(ledger: Ledger, sort: Sort = "-created_at", *, submitting: bool = False) -> list[UUID]:
    """All jobs, two a page. submitting: a new job comes in after each page."""
    seen: list[UUID] = []
    cursor = None
    for _ in range(10):
        with ledger.sessions.begin() as s:
            page, cursor = list_page(s, ledger.client_id, sort=sort, cursor=cursor, limit=2)
        seen += [job.id for job in page]
        if submitting:
            ledger.submit()
        if cursor is None:
            break
    return seen


def test_another_clients_jobs_are_not_listed(ledger: Ledger) -> None:
    ledger.submit()
    with ledger.sessions.begin() as s:
        assert list_page(s, ledger.new_client()) == ([], None)
        assert count_jobs(s, ledger.new_client(), JobFilter()) == 0


def test_pages_cover_every_job_once_newest_first(ledger: Ledger) -> None:
    with ledger.sessions.begin() as s:  # one transaction: all share one created_at, so the id must break the tie
        tied = [ledger.new_job() for _ in range(4)]
        for job in tied:
            repository.submit(s, job)
    later = [ledger.submit() for _ in range(3)]
    oldest_first = [*sorted(job.id for job in tied), *later]
    assert pages(ledger, "created_at") == oldest_first
    assert pages(ledger, submitting=True) == oldest_first[::-1]


def test_pages_by_deadline_cover_every_job_once(ledger: Ledger) -> None:
    """Several share a deadline, and several have none: those count as due after all others."""
    june = [ledger.submit(due_at=MAY + timedelta(days=31)) for _ in range(3)]
    never = [ledger.submit() for _ in range(3)]
    may = ledger.submit(due_at=MAY)
    soonest_first = [may, *sorted(june), *sorted(never)]
    assert pages(ledger, "due_at") == soonest_first
    assert pages(ledger, "-due_at") == soonest_first[::-1]


def test_a_full_last_page_has_no_next_cursor(ledger: Ledger) -> None:
    for _ in range(2):
        ledger.submit()
    with ledger.sessions.begin() as s:
        page, cursor = list_page(s, ledger.client_id, limit=2)
    assert (len(page), cursor) == (2, None)


FOREIGN = (
    b"[]", b"{}", b"1", b'["2020-01-01", "z"]', b'["-created_at", null, "0"]', b'["-created_at", "2020-01-01", "z"]',
)  # fmt: skip


@pytest.mark.parametrize("cursor", ["", "x", "é", "!!!!", *(base64.urlsafe_b64encode(t).decode() for t in FOREIGN)])
def test_an_invalid_cursor_is_refused(ledger: Ledger, cursor: str) -> None:
    with ledger.sessions.begin() as s, pytest.raises(InvalidCursor):
        list_page(s, ledger.client_id, cursor=cursor)


def test_a_cursor_of_another_order_is_refused(ledger: Ledger) -> None:
    for _ in range(2):
        ledger.submit()
    with ledger.sessions.begin() as s:
        for sort in get_args(Sort):
            cursor = list_page(s, ledger.client_id, sort=sort, limit=1)[1]
            for other in set(get_args(Sort)) - {sort}:
                with pytest.raises(InvalidCursor):
                    list_page(s, ledger.client_id, sort=other, cursor=cursor)


def test_filters_narrow_the_list(ledger: Ledger) -> None:
    plain = ledger.submit(due_at=MAY, job_metadata={"region": "eu", "team": "privacy"})
    other = ledger.submit(model="other", external_id="DSR-7", subject_hash="a" * 64, job_metadata={"region": "us"})
    with ledger.sessions.begin() as s:
        repository.request_cancel(s, ledger.client_id, plain)
    moment, second = ledger.job(other).created_at, timedelta(seconds=1)
    for wanted, expected in (
        (JobFilter(state=State.cancelled), [plain]),
        (JobFilter(model="other"), [other]),
        (JobFilter(external_id="DSR-7"), [other]),
        (JobFilter(subject_hash="a" * 64), [other]),
        (JobFilter(subject_hash="b" * 64), []),
        (JobFilter(created_after=moment), [other]),
        (JobFilter(created_before=moment), [plain]),
        (JobFilter(created_after=moment + second), []),
        (JobFilter(model="other", state=State.cancelled), []),
        (JobFilter(metadata=[("region", "us")]), [other]),
        (JobFilter(metadata=[("region", "eu"), ("team", "privacy")]), [plain]),
        (JobFilter(metadata=[("region", "eu"), ("region", "us")]), []),
        (JobFilter(metadata=[("eu", "region")]), []),
        (JobFilter(due_after=MAY), [plain]),
        (JobFilter(due_after=MAY + second), []),
        (JobFilter(due_before=MAY), []),
        (JobFilter(due_before=MAY + second), [plain]),
        (JobFilter(), [other, plain]),
    ):
        with ledger.sessions.begin() as s:
            assert [job.id for job in list_page(s, ledger.client_id, wanted)[0]] == expected, wanted
            assert count_jobs(s, ledger.client_id, wanted) == len(expected)


MANY = """
INSERT INTO jobs SELECT (jsonb_populate_record(job, jsonb_build_object(
    'id', gen_random_uuid(), 'created_at', now() - n * interval '1 minute', 'job_metadata', jsonb_build_object('n', n),
    'due_at', CASE WHEN n % 2 = 0 THEN now() + n * interval '1 minute' END
))).* FROM jobs AS job, generate_series(1, 5000) AS n
"""


@pytest.fixture
def long_ledger(ledger: Ledger) -> Ledger:
    """5001 jobs, half of them with a deadline, each with metadata of its own."""
    ledger.submit()
    with ledger.sessions.begin() as s:
        s.execute(text(MANY))
    with ledger.sessions() as s:
        s.connection(execution_options={"isolation_level": "AUTOCOMMIT"}).execute(text("ANALYZE jobs"))
    return ledger


def plan(ledger: Ledger, wanted: JobFilter, sort: Sort) -> str:
    """How Postgres reads the second page."""
    plans: list[str] = []

    def explain(_: object, cursor: psycopg.Cursor[Any], statement: str, parameters: Any, *_rest: object) -> None:
        with cursor.connection.cursor() as own:
            plans.append("\n".join(row[0] for row in own.execute(f"EXPLAIN {statement}".encode(), parameters)))

    with ledger.sessions.begin() as s:
        cursor = list_page(s, ledger.client_id, sort=sort, limit=1)[1]
        event.listen(s.get_bind(), "before_cursor_execute", explain)
        list_page(s, ledger.client_id, wanted, sort=sort, cursor=cursor)
        event.remove(s.get_bind(), "before_cursor_execute", explain)
    return plans[0]


def test_no_list_sorts_or_reads_what_its_filter_drops(long_ledger: Ledger) -> None:
    for sort in get_args(Sort):
        found = plan(long_ledger, JobFilter(), sort)
        assert ("ix_jobs_due" if "due" in sort else "ix_jobs_newest") in found
        assert "Sort" not in found
    soon = datetime.now(UTC) + timedelta(minutes=10)
    assert "ix_jobs_due" in plan(long_ledger, JobFilter(due_before=soon), "-created_at")
    assert "ix_jobs_metadata" in plan(long_ledger, JobFilter(metadata=[("n", "7")]), "-created_at")
