"""GET /unlearn-jobs/{job_id}/events: a job's history, as JSON or as it happens."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import anyio.to_thread
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.sse import EventSourceResponse
from starlette.responses import JSONResponse

from api.documentation import problems
from api.events import MOST_EVENTS, server_sent_events
from api.problems import InvalidRequest, NotFound, Unauthenticated
from api.schemas import EventId, EventsQuery
from api.services import Caller, CallerNeeded
from api.views import EventList, EventView
from jobs import repository

router = APIRouter(prefix="/unlearn-jobs", tags=["jobs"])

_STREAM = EventSourceResponse.media_type
_EXAMPLE = (
    "event: phase\n"
    'data: {"id":7,"at":"2031-04-01T09:30:00Z","kind":"phase","data":{"phase":"distilling","attempt":1}}\nid: 7\n\n'
)


@router.get(
    "/{job_id}/events",
    summary="A job's history",
    response_model=EventList,
    response_description="JSON, or with `Accept: text/event-stream` a stream that ends with the job",
    responses={
        200: {"content": {_STREAM: {"schema": {"type": "string"}, "example": _EXAMPLE}}},
        **problems(Unauthenticated, NotFound, InvalidRequest),
    },
)
async def get_events(
    request: Request,
    caller: CallerNeeded,
    job_id: UUID,
    query: Annotated[EventsQuery, Query()],
    last_event_id: Annotated[
        EventId | None,
        Header(alias="Last-Event-ID", description="for streams: go on after this event; counts more than `after`"),
    ] = None,
) -> Response:
    """As JSON, up to 500 events after `after`. As a stream, each event as it happens, `data` being the same object."""
    wants_stream = _STREAM in request.headers.get("accept", "")
    after = last_event_id if wants_stream and last_event_id is not None else query.after
    document = await anyio.to_thread.run_sync(_page, caller, job_id, after)
    if not wants_stream:
        return JSONResponse(document.model_dump(mode="json"))
    stream = server_sent_events(caller, job_id, after)
    # proxies that buffer would hold events back until the job has ended
    return EventSourceResponse(stream, headers={"X-Accel-Buffering": "no"})


def _page(caller: Caller, job_id: UUID, after: int) -> EventList:
    with caller.reading_job(job_id) as own:
        events = repository.events_after(own.session, job_id, after, MOST_EVENTS)
    return EventList(events=[EventView.model_validate(event) for event in events])
