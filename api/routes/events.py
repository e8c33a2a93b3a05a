"""The history of a job of either kind, as one JSON document or as a stream of server-sent events."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

import anyio
import anyio.to_thread
from fastapi import Header, Query, Request, Response
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from starlette.responses import JSONResponse

from api.openapi import problem_responses
from api.problems import InvalidRequest, NotFound, Unauthenticated
from api.routes.queries import EventsQuery
from api.routes.reading import KindDep
from api.schemas import EventId
from api.services import Caller, CallerDep
from api.views.job import EventList, EventView
from jobs import repository
from jobs.states import ENDED, Kind
from jobs.tables import JobEvent

_MAX_EVENTS = 500  # in one JSON answer, and in one poll of a stream
_POLL_SECONDS = 0.5
_KEEPALIVE_SECONDS = 15.0
_STREAM = EventSourceResponse.media_type
_EXAMPLE = (
    "event: phase\n"
    'data: {"id":7,"at":"2031-04-01T09:30:00Z","kind":"phase","data":{"phase":"distilling","attempt":1}}\nid: 7\n\n'
)


_LastEventId = Annotated[
    EventId | None,
    Header(alias="Last-Event-ID", description="for streams: go on after this event; counts more than `after`"),
]
DOCUMENTED: dict[str, Any] = {
    "summary": "A job's history",
    "response_model": EventList,
    "response_description": "JSON, or with `Accept: text/event-stream` a stream that ends with the job",
    "responses": {
        200: {"content": {_STREAM: {"schema": {"type": "string"}, "example": _EXAMPLE}}},
        **problem_responses(Unauthenticated, NotFound, InvalidRequest),
    },
}


async def get_events(
    request: Request,
    caller: CallerDep,
    kind: KindDep,
    job_id: UUID,
    query: Annotated[EventsQuery, Query()],
    last_event_id: _LastEventId = None,
) -> Response:
    """As JSON, up to 500 events after `after`. As a stream, each event as it happens, `data` being the same object."""
    history = _History(caller, job_id, kind)
    # A HEAD of the stream would stay open as long as the job runs.
    wants_stream = request.method == "GET" and _STREAM in request.headers.get("accept", "")
    after = last_event_id if wants_stream and last_event_id is not None else query.after
    # A stream reads a page too: an invalid key or job must be refused before the stream's 200 is sent.
    document = await anyio.to_thread.run_sync(history.page, after)
    if not wants_stream:
        return JSONResponse(document.model_dump(mode="json"))
    stream = _stream_events(history, after)
    # A proxy that buffers would hold all events back until the job has ended.
    return EventSourceResponse(stream, headers={"X-Accel-Buffering": "no"})


@dataclass(frozen=True)
class _History:
    """The history of one of the caller's jobs."""

    caller: Caller
    job_id: UUID
    kind: Kind

    def page(self, after: int) -> EventList:
        """The events above `after`. Raises Unauthenticated or NotFound."""
        _, events = self.poll(after)
        return EventList(events=[EventView.model_validate(event) for event in events])

    def poll(self, after: int) -> tuple[bool, Sequence[JobEvent]]:
        """Whether the job has ended, and its events above `after`. Raises Unauthenticated or NotFound.

        The state is read first. A job that has ended writes no more events, so none can be missed.
        """
        with self.caller.job(self.job_id, self.kind) as own:
            return own.job.state in ENDED, repository.events_after(own.session, self.job_id, after, _MAX_EVENTS)


async def _stream_events(history: _History, after: int) -> AsyncIterator[bytes]:
    """Sends every event with an id above `after`, and ends once the job has ended and all its events are sent.

    The stream polls Postgres and holds no connection between two polls. It ends early when the key is revoked or the
    process is closing. A client then comes back with Last-Event-ID.
    """
    last_sent = time.monotonic()
    while not history.caller.services.closing.is_set():
        ended, events = await anyio.to_thread.run_sync(_poll, history, after)
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


def _poll(history: _History, after: int) -> tuple[bool, Sequence[JobEvent]]:
    """As `History.poll`. A key that was revoked ends the stream."""
    try:
        return history.poll(after)
    except (Unauthenticated, NotFound):
        return True, []
