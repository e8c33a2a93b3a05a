"""Quotas of clients: requests, bytes, pixels, and what waits."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from jobs.access import find_client, set_limits
from jobs.client_limits import ClientLimits
from local.redis import EmbeddedRedis
from tests.api.service import Service, body, inline, pair, png, problem


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


@pytest.mark.parametrize("limits", [{"queued_jobs": 1}, {"queued_pairs": 3}, {"queued_steps": 100}])
def test_what_waits_is_bounded(service: Service, limits: dict[str, int]) -> None:
    http = limited(service, **limits)
    job = http.post("/unlearn-jobs", json=body())  # two pairs, sixty steps
    assert job.status_code == 202
    document = problem(http.post("/unlearn-jobs", json=body()), 429, "quota-exceeded")
    assert next(iter(limits)).removeprefix("queued_") in document["detail"]
    http.post(f"{job.headers['location']}/cancel")
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
