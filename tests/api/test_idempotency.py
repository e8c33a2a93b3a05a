"""The Idempotency-Key: a key makes one job, even if requests are lost, repeated or simultaneous."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from jobs import repository
from jobs.clients.access import find_client
from tests.api.conftest import Serve
from tests.api.service import Service, body, pair, problem
from tests.api.test_submit import EVERYTHING, as_multipart

KEY = {"Idempotency-Key": "order 66"}


def test_the_same_request_gives_the_same_job(service: Service) -> None:
    first = service.http.post("/unlearn-jobs", json=body(), headers=KEY)
    service.claim(first.json()["id"])
    again = service.http.post("/unlearn-jobs", json=body(), headers=KEY)
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    assert again.json()["state"] == "running"
    assert service.stored_jobs() == 1
    assert len(service.stored_inputs()) == 1


def test_the_same_content_in_another_encoding_gives_the_same_job(http: httpx.Client) -> None:
    request = body(**EVERYTHING)
    first = http.post("/unlearn-jobs", json=request, headers=KEY)
    reordered = dict(reversed(request.items())) | {"due_at": "2031-05-01T00:00:00Z"}
    for again in (
        http.post("/unlearn-jobs", files=as_multipart(request), headers=KEY),
        http.post("/unlearn-jobs", json=reordered, headers=KEY),
    ):
        assert again.status_code == 202, again.text
        assert again.json()["id"] == first.json()["id"]


def test_a_replayed_request_is_answered_after_its_model_has_left_the_catalog(service: Service, serve: Serve) -> None:
    first = service.http.post("/unlearn-jobs", json=body(), headers=KEY)
    catalog = service.settings.catalog
    catalog.write_text(catalog.read_text().replace("[models.demo", "[models.renamed"))
    later = serve(service.settings)
    again = service.http.post(f"{later.url}/unlearn-jobs", json=body(), headers=KEY)
    assert (again.status_code, again.headers["idempotency-replayed"]) == (202, "true")
    assert again.json()["id"] == first.json()["id"]
    problem(later.http.post("/unlearn-jobs", json=body(), headers=KEY), 422, "invalid-request", "model")


OTHER_CONTENTS: list[dict[str, Any]] = [
    {"forget": [pair(1), pair(3)]},
    {"forget": [pair(2), pair(1)]},
    {"forget": [pair(1), pair(2, answer="Somebody")]},
    {"external_id": "DSR-2"},
    {"subject_reference": "customer 4711"},
    {"training": {"seed": 1}},
    {"probes": {"rephrased": [pair(3)]}},
    {"retain_set": "demo-retain"},
]


def test_another_content_is_refused(service: Service) -> None:
    service.http.post("/unlearn-jobs", json=body(), headers=KEY)
    for change in OTHER_CONTENTS:
        response = service.http.post("/unlearn-jobs", json=body(**change), headers=KEY)
        assert response.status_code == 422, change
        problem(response, 422, "idempotency-key-reused", "Idempotency-Key")
    assert service.stored_jobs() == 1
    assert len(service.stored_inputs()) == 1


def test_a_refused_request_does_not_use_up_the_key(http: httpx.Client) -> None:
    assert http.post("/unlearn-jobs", json=body(model="gpt"), headers=KEY).status_code == 422
    assert http.post("/unlearn-jobs", json=body(), headers=KEY).status_code == 202


def test_two_clients_may_use_the_same_key(service: Service) -> None:
    first = service.http.post("/unlearn-jobs", json=body(), headers=KEY)
    other = service.as_client("second").post("/unlearn-jobs", json=body(forget=[pair(8)]), headers=KEY)
    assert other.status_code == 202
    assert other.json()["id"] != first.json()["id"]


def test_a_second_request_in_flight_is_refused(service: Service) -> None:
    with service.sessions.begin() as s:
        client = find_client(s, service.name)
        assert client is not None
        assert repository.try_idempotency_lock(s, client.id, KEY["Idempotency-Key"])
        problem(service.http.post("/unlearn-jobs", json=body(), headers=KEY), 409, "idempotency-in-flight")
        assert service.stored_inputs() == []
    assert service.http.post("/unlearn-jobs", json=body(), headers=KEY).status_code == 202


def test_simultaneous_requests_make_one_job(service: Service) -> None:
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: service.http.post("/unlearn-jobs", json=body(), headers=KEY), range(12)))
    accepted = [answer.json()["id"] for answer in answers if answer.status_code == 202]
    assert len(set(accepted)) == 1
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert service.stored_jobs() == 1
    assert len(service.stored_inputs()) == 1


def test_malformed_keys_are_refused(service: Service) -> None:
    for key in (b"", b"x" * 256, "Schlüssel".encode(), b"a\tb"):
        response = service.http.post("/unlearn-jobs", json=body(), headers=[(b"Idempotency-Key", key)])
        problem(response, 422, "invalid-request", "Idempotency-Key")
    assert service.stored_jobs() == 0
