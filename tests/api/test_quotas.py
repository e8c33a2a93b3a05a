"""Quotas of clients: requests, bytes, pixels, and what waits."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPResponse
from select import select
from typing import Any
from uuid import UUID

import httpx
import pytest

from bench.serving.hostile import slow_jpeg
from jobs.clients.access import find_client, set_limits
from jobs.clients.limits import ClientLimits
from jobs.settings import Settings
from jobs.tables import Job
from local.redis import EmbeddedRedis
from tests.api.conftest import Serve
from tests.api.service import Service, body, inline, pair, png, problem, sending
from tests.waiting import eventually


@pytest.fixture(autouse=True)
def _one_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.limits.quotas._now", lambda: 1_700_000_000.0)


def limited(service: Service, **limits: int) -> httpx.Client:
    """A new client of the service, with these limits."""
    http = service.as_client("limited")
    with service.sessions.begin() as s:
        client = find_client(s, "limited")
        assert client is not None
        set_limits(s, client, ClientLimits(**limits))
    return http


def test_requests_are_counted_and_every_answer_says_what_is_left(service: Service) -> None:
    http = limited(service, requests_per_minute=3)
    left = []
    for _ in range(3):
        response = http.get("/models")
        assert response.headers["ratelimit-policy"] == '"requests";q=3;w=60'
        found = re.fullmatch(r'"requests";r=(\d+);t=\d+', response.headers["ratelimit"])
        assert found is not None
        left.append(found[1])
    assert left == ["2", "1", "0"]
    refused = http.get("/models")
    problem(refused, 429, "quota-exceeded")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert service.as_client("another").get("/models").status_code == 200


def test_bytes_and_pixels_of_requests_are_counted(service: Service) -> None:
    http = limited(service, upload_bytes_per_hour=5000, pixels_per_hour=2000)

    def post(path: str = "/unlearn-jobs", **changes: Any) -> httpx.Response:
        return http.post(path, json=body(forget=[pair(image=inline(png(1, size=(40, 40))), **changes)]))

    assert post().status_code == 202
    for path in ("/unlearn-jobs", "/unlearn-jobs", "/unlearn-jobs/estimate"):  # at last without a look at the image
        assert "pixels" in problem(post(path=path), 429, "quota-exceeded")["detail"]
    assert "bytes" in problem(post(answer="x" * 4000), 429, "quota-exceeded")["detail"]


def quota_left(response: httpx.Response, name: str) -> int:
    found = re.search(rf'"{name}";r=(\d+)', response.headers["ratelimit"])
    assert found is not None
    return int(found[1])


def test_what_a_refused_check_has_decoded_counts(service: Service) -> None:
    http = limited(service, pixels_per_hour=10_000)
    whole = png(1, size=(40, 40))
    request = body(forget=[pair(image=inline(whole)), pair(2, image=inline(png(2, size=(40, 40))[:-30]))])
    for path in ("/unlearn-jobs", "/unlearn-jobs/estimate"):
        problem(http.post(path, json=request), 422, "invalid-request", "forget[1].image")
    too_large = pair(image=inline(png(3, size=(40, 400))))  # refused by its header, so nothing is decoded
    refused = http.post("/unlearn-jobs", json=body(forget=[pair(image=inline(whole)), too_large]))
    problem(refused, 422, "invalid-request", "forget[1].image")
    assert quota_left(refused, "pixels") == 10_000 - 4 * 1600


def test_what_a_killed_check_has_decoded_counts(serve: Serve, settings: Settings) -> None:
    slow = {"max_image_seconds": 0.2, "max_image_pixels": 40_000_000, "max_image_bytes": 2_000_000}
    service = serve(settings.model_copy(update=slow | {"max_body_bytes": 4_000_000}))
    http = limited(service, pixels_per_hour=100_000_000)
    request = body(forget=[pair(1), pair(image=inline(slow_jpeg())), pair(2)])
    refused = http.post("/unlearn-jobs", json=request)
    problem(refused, 422, "invalid-request", "forget[1].image")
    assert quota_left(refused, "pixels") == 100_000_000 - 8 * 8 - 6000 * 6000


def test_what_is_decoded_for_a_client_that_hangs_up_counts(serve: Serve, settings: Settings) -> None:
    slow = {
        "max_image_seconds": 1000,
        "check_processor_seconds": 1000,
        "max_image_pixels": 40_000_000,
        "max_image_bytes": 2_000_000,
    }
    service = serve(settings.model_copy(update=slow | {"max_body_bytes": 4_000_000}))
    http = limited(service, pixels_per_hour=36_000_100)
    with sending(http, body(forget=[pair(image=inline(slow_jpeg()))])):
        eventually(service.decoding)
    eventually(lambda: not service.scratch_files())
    small = body(forget=[pair(image=inline(png(1, size=(40, 40))))])
    assert "pixels" in problem(http.post("/unlearn-jobs", json=small), 429, "quota-exceeded")["detail"]


def test_processor_time_counts_also_for_a_check_that_is_refused_killed_or_left(
    serve: Serve, settings: Settings
) -> None:
    slow = {"max_image_seconds": 0.3, "max_image_pixels": 40_000_000, "max_image_bytes": 2_000_000}
    service = serve(settings.model_copy(update=slow | {"max_body_bytes": 4_000_000}))
    http = limited(service, processor_seconds_per_hour=1000)
    quick = body(forget=[pair(1)])

    def left(response: httpx.Response) -> int:
        assert '"processor-milliseconds";q=1000000;w=3600' in response.headers["ratelimit-policy"]
        return quota_left(response, "processor-milliseconds")

    accepted = left(http.post("/unlearn-jobs", json=quick))
    assert accepted < 1_000_000
    refused = http.post("/unlearn-jobs/estimate", json=body(forget=[pair(image=inline(b"no image"))]))
    problem(refused, 422, "invalid-request", "forget[0].image")
    assert left(refused) < accepted
    killed = http.post("/unlearn-jobs", json=body(forget=[pair(image=inline(slow_jpeg()))]))
    problem(killed, 422, "invalid-request", "forget[0].image")
    assert left(killed) <= left(refused) - 300

    patient = serve(service.settings.model_copy(update={"max_image_seconds": 1000, "check_processor_seconds": 1000}))
    again = patient.open(Authorization=http.headers["authorization"])
    with sending(again, body(forget=[pair(image=inline(slow_jpeg()))])):
        eventually(patient.decoding)
    eventually(lambda: not patient.scratch_files())
    assert left(again.post("/unlearn-jobs", json=quick)) < left(killed) - 100  # a process takes more to start


def test_without_processor_time_left_nothing_is_looked_at(service: Service) -> None:
    http = limited(service, processor_seconds_per_hour=0)
    broken = body(forget=[pair(image=inline(b"no image"))])
    for path in ("/unlearn-jobs", "/unlearn-jobs/estimate", "/evaluations"):
        refused = http.post(path, json=broken)
        assert "processor-milliseconds" in problem(refused, 429, "quota-exceeded")["detail"]
    assert not service.scratch_files()


CHUNK = 65536


@contextmanager
def chunked(http: httpx.Client, chunks: int) -> Iterator[socket.socket]:
    """An upload in chunks of 64 KiB that doesn't end."""
    head = ["POST /unlearn-jobs HTTP/1.1", "Host: vgid", f"Authorization: {http.headers['authorization']}"]
    head += ["Content-Type: application/json", "Transfer-Encoding: chunked", "", ""]
    with socket.create_connection((http.base_url.host, http.base_url.port), timeout=20) as connection:
        connection.sendall("\r\n".join(head).encode())
        with suppress(ConnectionError):  # the answer has come already
            for _ in range(chunks):
                connection.sendall(b"%x\r\n%b\r\n" % (CHUNK, bytes(CHUNK)))
        yield connection


def status_of(connection: socket.socket) -> int:
    answer = HTTPResponse(connection)
    answer.begin()
    return answer.status


@pytest.fixture
def roomy(serve: Serve, settings: Settings) -> Service:
    """A service that takes bodies of 8 MB, and gives them time."""
    return serve(settings.model_copy(update={"max_body_bytes": 8_000_000, "min_body_rate": 0}))


def test_chunked_uploads_share_one_quota_and_end_where_it_is_spent(roomy: Service) -> None:
    http = limited(roomy, upload_bytes_per_hour=40 * CHUNK)
    with ExitStack() as held:
        uploads = [held.enter_context(chunked(http, 16)) for _ in range(6)]  # each is within the quota
        assert 429 in [status_of(upload) for upload in uploads[-1:]]  # and none has ended
        eventually(lambda: sum(file.stat().st_size for file in roomy.scratch_files()) <= 40 * CHUNK)
    eventually(lambda: not roomy.scratch_files())
    refused = http.post("/unlearn-jobs", json=body())
    assert "bytes" in problem(refused, 429, "quota-exceeded")["detail"]
    assert quota_left(refused, "bytes") == 0


def test_an_upload_that_breaks_off_costs_what_has_arrived(roomy: Service) -> None:
    http = limited(roomy, upload_bytes_per_hour=100 * CHUNK)
    key = f"Authorization: {http.headers['authorization']}"
    announced = ["POST /unlearn-jobs HTTP/1.1", "Host: vgid", key, f"Content-Length: {90 * CHUNK}", "", ""]
    with socket.create_connection((http.base_url.host, http.base_url.port)) as connection:
        connection.sendall("\r\n".join(announced).encode() + bytes(20 * CHUNK))
        eventually(roomy.scratch_files)  # what is above 1 MiB waits there
        eventually(lambda: roomy.scratch_files()[0].stat().st_size > 0)
    eventually(lambda: not roomy.scratch_files())
    small = http.post("/unlearn-jobs", json=body())
    assert 80 * CHUNK - 5000 < quota_left(small, "bytes") < 100 * CHUNK - 2**20


def test_uploads_at_once_are_bounded(roomy: Service) -> None:
    http = limited(roomy, uploads_at_once=2)
    with chunked(http, 1) as one, chunked(http, 1) as two, chunked(http, 1) as three:
        answered, _, _ = select([one, two, three], [], [], 20)  # whichever came last
        assert [status_of(upload) for upload in answered] == [429]
        refused = http.post("/unlearn-jobs/estimate", json=body())  # the other two still come
        assert "At most 2 requests" in problem(refused, 429, "quota-exceeded")["detail"]
        assert int(refused.headers["retry-after"]) < 60
        assert http.get("/models").status_code == 200
        assert roomy.as_client("another").post("/unlearn-jobs", json=body()).status_code == 202
    eventually(lambda: http.post("/unlearn-jobs", json=body()).status_code == 202)


def test_announced_bytes_over_the_quota_are_refused_before_they_are_sent(service: Service) -> None:
    http = limited(service, upload_bytes_per_hour=1000)
    key = f"Authorization: {http.headers['authorization']}"
    head = ["POST /unlearn-jobs HTTP/1.1", "Host: vgid", key, "Content-Type: application/json", "Content-Length: 5000"]
    with socket.create_connection((http.base_url.host, http.base_url.port)) as connection:
        connection.sendall("\r\n".join([*head, "", ""]).encode())  # and no body
        answer = HTTPResponse(connection)
        answer.begin()
        assert answer.status == 429
    assert "bytes" in problem(http.post("/unlearn-jobs", content=iter([bytes(2000)])), 429, "quota-exceeded")["detail"]


@pytest.mark.parametrize("limits", [{"queued_jobs": 1}, {"queued_pairs": 3}, {"queued_steps": 100}])
def test_what_waits_is_bounded(service: Service, limits: dict[str, int]) -> None:
    http = limited(service, **limits)
    job = http.post("/unlearn-jobs", json=body())  # two pairs, sixty steps
    assert job.status_code == 202
    document = problem(http.post("/unlearn-jobs", json=body()), 429, "quota-exceeded")
    assert next(iter(limits)).removeprefix("queued_") in document["detail"]
    http.post(f"{job.headers['location']}/cancel")
    assert http.post("/unlearn-jobs", json=body()).status_code == 202


def test_steps_of_large_batches_wait_as_more(service: Service) -> None:
    http = limited(service, queued_steps=100)
    training = {"steps": 60, "forget_batch_size": 20, "retain_batch_size": 20}
    document = problem(http.post("/unlearn-jobs", json=body(training=training)), 429, "quota-exceeded")
    assert "120" in document["detail"]
    job = http.post("/unlearn-jobs", json=body(training={**training, "forget_batch_size": 8}))
    assert job.status_code == 202
    with service.sessions() as s:
        assert s.get_one(Job, UUID(job.json()["id"])).planned_steps == 84


def test_pairs_of_probes_wait_too(service: Service) -> None:
    http = limited(service, queued_pairs=7)
    probes = {"a": [pair(3)], "b": [pair(4)]}
    assert http.post("/unlearn-jobs", json=body(probes=probes)).status_code == 202  # four pairs
    document = problem(http.post("/unlearn-jobs", json=body(probes=probes)), 429, "quota-exceeded")
    assert "7 pairs" in document["detail"]
    assert "8" in document["detail"]
    assert http.post("/unlearn-jobs", json=body()).status_code == 202


def test_a_full_queue_refuses_before_any_image_is_looked_at(service: Service) -> None:
    http = limited(service, queued_jobs=0)
    broken = body(forget=[pair(image=inline(b"no image"))])
    problem(http.post("/unlearn-jobs", json=broken), 429, "quota-exceeded")


def test_without_redis_everything_passes(service: Service, redis_server: EmbeddedRedis) -> None:
    redis_server.process.kill()
    redis_server.process.wait()
    try:
        assert service.http.post("/unlearn-jobs", json=body()).status_code == 202
    finally:
        redis_server.start()
