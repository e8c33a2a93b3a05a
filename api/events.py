"""A job's history as server-sent events: polled from Postgres, which is the only truth, in short transactions."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from uuid import UUID

import anyio
import anyio.to_thread
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from api.problems import NotFound, Unauthenticated
from api.services import Caller
from api.views import EventView
from jobs import repository
from jobs.states import ENDED
from jobs.tables import JobEvent

POLL_SECONDS = 0.5
HEARTBEAT_SECONDS = 15.0
MOST_EVENTS = 500


async def server_sent_events(caller: Caller, job_id: UUID, after: int) -> AsyncIterator[bytes]:
    """Every event with an id above `after`, as it is written, until the job has ended and all of them are sent.

    No database connection is held between two polls. Ends early when the key is revoked or the process is closing; the
    client then comes back with Last-Event-ID.
    """
    spoke = time.monotonic()
    while not caller.services.closing.is_set():
        ended, events = await anyio.to_thread.run_sync(_poll, caller, job_id, after)
        for event in events:
            document = EventView.model_validate(event).model_dump_json()
            yield format_sse_event(data_str=document, event=event.kind, id=str(event.id))
            after, spoke = event.id, time.monotonic()
        if ended and not events:
            return
        if time.monotonic() - spoke >= HEARTBEAT_SECONDS:
            yield KEEPALIVE_COMMENT
            spoke = time.monotonic()
        if not events:
            await anyio.sleep(POLL_SECONDS)


def _poll(caller: Caller, job_id: UUID, after: int) -> tuple[bool, Sequence[JobEvent]]:
    """Whether the job had ended, and what was written since. In this order: an ended job writes no more events."""
    try:
        with caller.reading_job(job_id) as own:
            return own.job.state in ENDED, repository.events_after(own.session, job_id, after, MOST_EVENTS)
    except (Unauthenticated, NotFound):
        return True, []
