"""A job's history, as JSON and as a stream."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from jobs.clients import access
from tests.api.service import Service, body, problem

STREAM = {"Accept": "text/event-stream"}


def frames(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """The events of a stream: id, event, data."""
    frame: dict[str, Any] = {}
    for line in response.iter_lines():
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(": ")
            frame[name] = json.loads(value) if name == "data" else value
        elif frame:
            yield frame
            frame = {}


def test_the_history_as_json(service: Service, tmp_path: Path) -> None:
    job_id, _ = service.succeeded(tmp_path)
    path = f"/unlearn-jobs/{job_id}/events"
    events = service.http.get(path).json()["events"]
    states = [event["data"]["state"] for event in events if event["kind"] == "state"]
    assert states == ["queued", "running", "succeeded"]
    assert [event["id"] for event in events] == sorted(event["id"] for event in events)
    assert {"phase", "progress", "metrics"} <= {event["kind"] for event in events}
    assert service.http.get(path, params={"after": events[2]["id"]}).json()["events"] == events[3:]


def test_an_ended_job_streams_its_history_and_ends(service: Service, tmp_path: Path) -> None:
    job_id, _ = service.succeeded(tmp_path)
    path = f"/unlearn-jobs/{job_id}/events"
    events = service.http.get(path).json()["events"]
    response = service.http.get(path, headers=STREAM)
    assert response.headers["content-type"].startswith("text/event-stream")
    received = list(frames(response))
    assert [frame["data"] for frame in received] == events
    assert [frame["id"] for frame in received] == [str(event["id"]) for event in events]
    assert [frame["event"] for frame in received] == [event["kind"] for event in events]

    resumed = service.http.get(path, headers={**STREAM, "Last-Event-ID": str(events[1]["id"])})
    assert [frame["data"] for frame in frames(resumed)] == events[2:]
    nothing_left = service.http.get(path, headers={**STREAM, "Last-Event-ID": str(events[-1]["id"])})
    assert list(frames(nothing_left)) == []


def test_a_running_job_streams_what_happens(service: Service, tmp_path: Path) -> None:
    job_id = service.submit()
    with service.http.stream("GET", f"/unlearn-jobs/{job_id}/events", headers=STREAM) as response:
        stream = frames(response)
        assert next(stream)["data"]["data"]["state"] == "queued"
        token = service.claim(job_id)
        assert next(stream)["data"]["data"]["state"] == "running"
        assert next(stream)["data"]["data"]["phase"] == "loading"
        service.report(job_id, token)
        assert next(stream)["data"]["data"]["phase"] == "distilling"
        progress = next(stream)
        assert (progress["event"], progress["data"]["data"]["step"]) == ("progress", 24)
        service.succeed(job_id, token, tmp_path)
        last = next(stream)
        assert (last["event"], last["data"]["data"]["state"]) == ("state", "succeeded")
        assert list(stream) == []


def test_a_stream_ends_when_its_key_is_revoked(service: Service) -> None:
    with service.sessions.begin() as s:
        key, secret = access.create_key(s, access.create_client(s, "leaver"))
        prefix = key.prefix
    leaver = service.open(Authorization=f"Bearer {secret}")
    path = leaver.post("/unlearn-jobs", json=body()).headers["location"]
    with leaver.stream("GET", f"{path}/events", headers=STREAM) as response:
        stream = frames(response)
        assert next(stream)["data"]["data"]["state"] == "queued"
        with service.sessions.begin() as s:
            access.revoke_key(s, prefix)
        assert list(stream) == []


def test_waiting_streams_hold_no_database_connection(service: Service) -> None:
    """The service still answers while more streams are open than the pool has connections."""
    job_id = service.submit()
    opened = [service.http.stream("GET", f"/unlearn-jobs/{job_id}/events", headers=STREAM) for _ in range(20)]
    try:
        for stream in opened:
            assert next(frames(stream.__enter__()))["event"] == "state"
        assert service.http.get(f"/unlearn-jobs/{job_id}").status_code == 200
        assert service.http.post(f"/unlearn-jobs/{job_id}/cancel").status_code == 200
    finally:
        for stream in opened:
            stream.__exit__(None, None, None)


def test_bad_positions_are_refused(service: Service) -> None:
    path = f"/unlearn-jobs/{service.submit()}/events"
    for value in ("x", "-1", str(2**63)):
        problem(service.http.get(path, params={"after": value}), 422, "invalid-request", "after")
        response = service.http.get(path, headers={**STREAM, "Last-Event-ID": value})
        problem(response, 422, "invalid-request", "Last-Event-ID")
