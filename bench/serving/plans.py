"""How Postgres runs each statement that the service makes, asked while the service's own code makes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Engine, event
from sqlalchemy.orm import Session

from bench.serving.stack import BenchStack
from jobs import claims, job_lists, reaping, repository
from jobs.clients import access
from jobs.job_lists import JobFilter
from jobs.queueing.forecast import forecast
from jobs.queueing.queue import JobQueue
from jobs.states import Kind, State
from jobs.tables import Job

# In the other tables a sequential scan is right: they hold one row a client or a key.
_LONG_TABLES = {"jobs", "job_events", "job_metrics", "job_evidence", "artifacts"}
_PAGES_DEEP = 100
Plan = dict[str, Any]


def plans(stack: BenchStack, job_id: UUID, queued_id: UUID) -> list[Plan]:
    """An entry a statement: who makes it, indexes, rows read, buffers, milliseconds, sequential scans, whole plan."""
    found: list[Plan] = []
    for name, act in _acts(stack, job_id, queued_id).items():
        with stack.sessions() as s, _explaining(stack.engine, name, found):
            act(s)
    queue = JobQueue(stack.settings.redis_url)
    with _explaining(stack.engine, "reaper", found):
        reaping.reap(stack.sessions, stack.blobs, stack.settings, queue)
    queue.close()
    return found


def _acts(stack: BenchStack, job_id: UUID, queued_id: UUID) -> dict[str, Callable[[Session], object]]:
    client, token = stack.client_id, uuid4()
    yesterday = datetime.now(UTC) - timedelta(days=1)
    deep = _deep_cursor(stack)

    def listed(**filters: Any) -> Callable[[Session], object]:
        return lambda s: job_lists.list_page(s, client, JobFilter(**filters))

    return {
        "key with job": lambda s: access.authenticate_for_job(s, stack.key, job_id, Kind.unlearn),
        "metrics": lambda s: repository.metrics_of(s, job_id),
        "evidence": lambda s: repository.evidence_of(s, job_id),
        "events": lambda s: repository.events_after(s, job_id, 0, 500),
        "idempotency key": lambda s: repository.find_by_idempotency_key(s, client, "key-2"),
        "cancel": lambda s: repository.request_cancel(s, client, queued_id),
        "claim": lambda s: claims.claim_next(s, "bench", 30),
        "forecast": lambda s: forecast(s, s.get_one(Job, queued_id)),
        "heartbeat": lambda s: claims.heartbeat(s, token, 30),
        "inputs deleted": lambda s: repository.mark_inputs_deleted(s, job_id),
        "list": listed(),
        "list, evaluations": listed(kind=Kind.evaluate),
        "list, deep page": lambda s: job_lists.list_page(s, client, cursor=deep),
        "list, by deadline": lambda s: job_lists.list_page(s, client, sort="due_at"),
        "list, by deadline, last first": lambda s: job_lists.list_page(s, client, sort="-due_at"),
        **{f"list, {state}": listed(state=state) for state in State},
        "list, model": listed(model="model-2"),
        "list, unused model": listed(model="unused"),
        "list, external_id": listed(external_id="DSR-2"),
        "list, subject": listed(subject_hash="0" * 64),
        "list, metadata": listed(metadata=[("region", "eu")]),
        "list, due_before": listed(due_before=yesterday),
        "list, created_after": listed(created_after=yesterday),
        "list, created_before": listed(created_before=yesterday),
    }


def _deep_cursor(stack: BenchStack) -> str | None:
    cursor = None
    with stack.sessions() as s:
        for _ in range(_PAGES_DEEP):
            following = job_lists.list_page(s, stack.client_id, limit=100, cursor=cursor)[1]
            cursor = following or cursor
    return cursor


@contextmanager
def _explaining(engine: Engine, name: str, found: list[Plan]) -> Iterator[None]:
    """Explains every statement on a long table just before it runs, and takes back what explaining it did."""

    def explain(_connection: object, cursor: psycopg.Cursor[Any], statement: str, parameters: Any, *_: object) -> None:
        if not any(f" {table}" in statement for table in _LONG_TABLES) or statement.startswith("INSERT"):
            return
        with cursor.connection.cursor() as own:
            in_transaction = cursor.connection.info.transaction_status != TransactionStatus.IDLE
            if in_transaction:
                own.execute("SAVEPOINT explained")
            own.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}".encode(), parameters)
            row = own.fetchone()
            assert row is not None
            found.append(_summary(name, statement, row[0][0]))
            if in_transaction:
                own.execute("ROLLBACK TO SAVEPOINT explained")

    event.listen(engine, "before_cursor_execute", explain)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", explain)


def _summary(name: str, statement: str, explained: dict[str, Any]) -> Plan:
    nodes = list(_nodes(explained["Plan"]))
    return {
        "name": name,
        "statement": statement,
        "indexes": sorted({node["Index Name"] for node in nodes if "Index Name" in node}),
        "sequential_scans": [
            node["Relation Name"]
            for node in nodes
            if node["Node Type"].endswith("Seq Scan") and node["Relation Name"] in _LONG_TABLES
        ],
        # what the scans looked at, those rows that a filter then dropped included
        "rows_read": sum(
            (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
            for node in nodes
            if "Scan" in node["Node Type"]
        ),
        "buffers": explained["Plan"]["Shared Hit Blocks"] + explained["Plan"]["Shared Read Blocks"],
        "milliseconds": explained["Planning Time"] + explained["Execution Time"],
        "plan": explained["Plan"],
    }


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)
