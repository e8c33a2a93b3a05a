"""GET /unlearn-jobs/{job_id}/events: a job's history, as one JSON document or as a stream of server-sent events."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from typing import Annotated
from uuid import UUID

import anyio
import anyio.to_thread
from fastapi import Header, Query, Request, Response
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from starlette.responses import JSONResponse

from api.openapi import problem_responses
from api.problems import InvalidRequest, NotFound, Unauthenticated
from api.routing import Router
from api.schemas import EventId, EventsQuery
from api.services import Caller, CallerDep
from api.views.job import EventList, EventView
from jobs import repository
from jobs.states import ENDED
from jobs.tables import JobEvent

router = Router(prefix="/unlearn-jobs", tags=["jobs"])

_MAX_EVENTS = 500  # in one JSON answer, and in one poll of a stream
_POLL_SECONDS = 0.5
_KEEPALIVE_SECONDS = 15.0
_STREAM = EventSourceResponse.media_type
_EXAMPLE = (
    "event: phase\n"
    'data: {"id":7,"at":"2031-04-01T09:30:00Z","kind":"phase","data":{"phase":"distilling","attempt":1}}\nid: 7\n\n'
)


@router.get(
    "/{job_id:uuid}/events",
    operation_id="get_events",
    summary="A job's history",
    response_model=EventList,
    response_description="JSON, or with `Accept: text/event-stream` a stream that ends with the job",
    responses={
        200: {"content": {_STREAM: {"schema": {"type": "string"}, "example": _EXAMPLE}}},
        **problem_responses(Unauthenticated, NotFound, InvalidRequest),
    },
)
async def get_events(
    request: Request,
    caller: CallerDep,
    job_id: UUID,
    query: Annotated[EventsQuery, Query()],
    last_event_id: Annotated[
        EventId | None,
        Header(alias="Last-Event-ID", description="for streams: go on after this event; counts more than `after`"),
    ] = None,
) -> Response:
    """As JSON, up to 500 events after `after`. As a stream, each event as it happens, `data` being the same object."""
    # A HEAD of the stream would stay open as long as the job runs.
    wants_stream = request.method == "GET" and _STREAM in request.headers.get("accept", "")
    after = last_event_id if wants_stream and last_event_id is not None else query.after
    # A stream reads a page too: an invalid key or job must be refused before the stream's 200 is sent.
    document = await anyio.to_thread.run_sync(_read_page, caller, job_id, after)
    if not wants_stream:
        return JSONResponse(document.model_dump(mode="json"))
    stream = _stream_events(caller, job_id, after)
    # A proxy that buffers would hold all events back until the job has ended.
    return EventSourceResponse(stream, headers={"X-Accel-Buffering": "no"})


def _read_page(caller: Caller, job_id: UUID, after: int) -> EventList:
    with caller.job(job_id) as own:
        events = repository.events_after(own.session, job_id, after, _MAX_EVENTS)
    return EventList(events=[EventView.model_validate(event) for event in events])


async def _stream_events(caller: Caller, job_id: UUID, after: int) -> AsyncIterator[bytes]:
    """Sends every event with an id above `after`, and ends once the job has ended and all its events are sent.

    The stream polls Postgres and holds no connection between two polls. It ends early when the key is revoked or the
    process is closing. A client then comes back with Last-Event-ID.
    """
    last_sent = time.monotonic()
    while not caller.services.closing.is_set():
        ended, events = await anyio.to_thread.run_sync(_poll, caller, job_id, after)
        for event in events:
            document = EventView.model_validate(event).model_dump_json()
            yield format_sse_event(data_str=document, event=event.kind, id=str(event.id))
            after, last_sent = event.id, time.monotonic()
        if ended and not events:
            return
        if time.monotonic() - last_sent >= _KEEPALIVE_SECONDS:
            yield KEEPALIVE_COMMENT
            last_sent = time.monotonic()
        if not events:
            await anyio.sleep(_POLL_SECONDS)


def _poll(caller: Caller, job_id: UUID, after: int) -> tuple[bool, Sequence[JobEvent]]:
    """Returns whether the job has ended, and its new events.

    The state is read first. A job that has ended writes no more events, so none can be missed.
    """
    try:
        with caller.job(job_id) as own:
            return own.job.state in ENDED, repository.events_after(own.session, job_id, after, _MAX_EVENTS)
    except (Unauthenticated, NotFound):
        return True, []
