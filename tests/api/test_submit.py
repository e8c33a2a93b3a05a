"""Submitting a forget request: what is accepted in both encodings, and what is stored."""

from __future__ import annotations

import base64
import errno
import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest

from jobs.clients import access
from jobs.clients.limits import ClientLimits
from jobs.storage.blobs import FileBlobStore
from jobs.storage.crypto import Keyring
from jobs.storage.inputs import JobInputs, open_sealed
from jobs.tables import Job
from tests.api.conftest import Serve
from tests.api.service import Service, body, inline, pair, png, problem

EVERYTHING: dict[str, Any] = {
    "retain": [pair(7, answer="Someone else")],
    "probes": {"rephrased": [pair(1, question="Whom do you see?")], "held_out_photos": [pair(9)]},
    "training": {"steps": 10, "perturbation": {"kind": "blur", "strength": 4}},
    "external_id": "DSR-1",
    "subject_reference": "Zoë Marwood",
    "legal_basis": "GDPR Art. 17(1)(b)",
    "due_at": "2031-05-01T02:00:00+02:00",
    "priority": -3,
    "metadata": {"ticket": "4711"},
}


def as_multipart(request: dict[str, Any]) -> list[Any]:
    """The same request as multipart, with a part for every distinct image."""
    names: dict[str, str] = {}
    document = json.loads(json.dumps(request))
    for pairs in (document["forget"], document.get("retain", []), *document.get("probes", {}).values()):
        for item in pairs:
            text = item["image"]["base64"]
            item["image"] = {"file": names.setdefault(text, f"{len(names)}.png")}
    files = [(name, (name, base64.b64decode(text), "image/png")) for text, name in names.items()]
    return [("request", (None, json.dumps(document), "application/json")), *files]


def inputs_of(service: Service, job_id: UUID) -> JobInputs:
    with service.sessions() as s:
        job = s.get_one(Job, job_id)
    assert job.wrapped_data_key is not None
    key = Keyring(service.settings.secret_key_bytes).unwrap(job.wrapped_data_key, job_id)
    return open_sealed(service.blobs.read_inputs(job_id), key)


def test_a_minimal_request_is_accepted(service: Service) -> None:
    response = service.http.post("/unlearn-jobs", json=body())
    assert response.status_code == 202
    job = response.json()
    assert response.headers["location"] == f"/unlearn-jobs/{job['id']}"
    assert int(response.headers["retry-after"]) > 0
    assert "idempotency-replayed" not in response.headers
    assert job["state"] == "queued"
    assert job["data"] == {"forget_pairs": 2, "retain_pairs": None, "retain_set": "demo-retain", "probes": {}}
    assert job["config"]["training"]["steps"] == 60
    assert (job["metrics"], job["artifact"], job["error"], job["phase"]) == (None, None, None, None)
    assert (job["priority"], job["queue_position"], job["estimated_start_at"]) == (0, 1, None)
    assert service.http.get(response.headers["location"]).json() == job
    assert service.queue.depth() == 1


def test_the_job_shows_every_field_but_texts_and_images(service: Service) -> None:
    response = service.http.post("/unlearn-jobs", json=body(**EVERYTHING))
    assert response.status_code == 202, response.text
    job = response.json()
    assert (job["external_id"], job["legal_basis"]) == ("DSR-1", "GDPR Art. 17(1)(b)")
    assert datetime.fromisoformat(job["due_at"]) == datetime(2031, 5, 1, tzinfo=UTC)
    assert (job["metadata"], job["priority"]) == ({"ticket": "4711"}, -3)
    assert job["data"]["probes"] == {"rephrased": 1, "held_out_photos": 1}
    assert (job["data"]["retain_pairs"], job["data"]["retain_set"]) == (1, "demo-retain")
    assert job["config"]["training"]["steps"] == 10
    assert job["config"]["method"]["perturbation"] == {
        "kind": "blur",
        "strength": 4.0,
        "final_strength": None,
        "course": "linear",
    }
    assert len(job["subject_reference_hash"]) == 64
    for secret in ("Marwood", "Who is this", "Whom do you see"):
        assert secret not in response.text


@pytest.mark.parametrize("encoding", ["json", "multipart"])
def test_the_pairs_are_stored_encrypted(service: Service, encoding: str) -> None:
    request = body(**EVERYTHING)
    sent = {"json": request} if encoding == "json" else {"files": as_multipart(request)}
    response = service.http.post("/unlearn-jobs", **sent)
    assert response.status_code == 202, response.text
    job_id = UUID(response.json()["id"])
    inputs = inputs_of(service, job_id)
    assert [p.image.data for p in inputs.forget] == [png(1), png(2)]
    assert inputs.forget.pairs[0].answer == "Ilse Marwood"
    assert inputs.retain is not None
    assert inputs.retain.pairs[0].image.data == png(7)
    assert inputs.probes["rephrased"].pairs[0].question == "Whom do you see?"
    sealed = service.blobs.read_inputs(job_id)
    assert b"Marwood" not in sealed
    assert png(1) not in sealed


def test_the_request_part_may_be_a_file(http: httpx.Client) -> None:
    parts = as_multipart(body())
    parts[0] = ("request", ("request.json", parts[0][1][1], "application/json"))
    assert http.post("/unlearn-jobs", files=parts).status_code == 202


def test_multipart_may_mix_files_and_base64(http: httpx.Client) -> None:
    request = body(forget=[pair(1, image={"file": "a"}), pair(2), pair(3, image={"file": "a"}, question="And this?")])
    parts: list[Any] = [
        ("request", (None, json.dumps(request), "application/json")),
        ("a", ("a.png", png(1), "image/png")),
    ]
    response = http.post("/unlearn-jobs", files=parts)
    assert response.status_code == 202
    assert response.json()["data"]["forget_pairs"] == 3


def test_image_formats(http: httpx.Client) -> None:
    for kind in ("PNG", "JPEG", "WEBP"):
        request = body(forget=[pair(image=inline(png(5, kind=kind)))])
        assert http.post("/unlearn-jobs", json=request).status_code == 202, kind


def test_a_named_retain_set_and_own_retain_pairs(http: httpx.Client) -> None:
    named = http.post("/unlearn-jobs", json=body(model="rich", retain_set="places")).json()
    assert named["data"]["retain_set"] == "places"
    for model, asked, used in (("bare", None, None), ("demo", None, "demo-retain"), ("rich", "people", "people")):
        own = http.post("/unlearn-jobs", json=body(model=model, forget=[pair(1)], retain=[pair(2)], retain_set=asked))
        assert (own.json()["data"]["retain_set"], own.json()["data"]["retain_pairs"]) == (used, 1)
    unnamed = http.post("/unlearn-jobs", json=body(model="rich", retain=[pair(2)]))
    assert "people, places" in problem(unnamed, 422, "invalid-request", "retain_set")["errors"][0]["detail"]


def test_an_overdue_request_is_still_accepted(http: httpx.Client) -> None:
    assert http.post("/unlearn-jobs", json=body(due_at="2020-01-01T00:00:00Z")).status_code == 202


def test_a_priority_is_bounded_by_the_clients_right(service: Service) -> None:
    def limit(max_priority: int) -> None:
        with service.sessions.begin() as s:
            client = access.find_client(s, service.name)
            assert client is not None
            access.set_limits(s, client, ClientLimits(max_priority=max_priority))

    document = problem(
        service.http.post("/unlearn-jobs", json=body(priority=5)), 422, "invalid-request", field="priority"
    )
    assert document["errors"][0]["pointer"] == "#/priority"
    assert "at most 0" in document["errors"][0]["detail"]
    limit(5)
    key = {"Idempotency-Key": "urgent"}
    accepted = service.http.post("/unlearn-jobs", json=body(priority=5), headers=key)
    assert (accepted.status_code, accepted.json()["priority"]) == (202, 5)
    assert service.http.get("/unlearn-jobs").json()["jobs"][0]["priority"] == 5
    limit(-10)
    assert service.http.post("/unlearn-jobs", json=body(priority=5), headers=key).json() == accepted.json()
    problem(service.http.post("/unlearn-jobs", json=body()), 422, "invalid-request", field="priority")


def test_a_job_is_accepted_without_redis(serve: Serve, service: Service) -> None:
    without_redis = serve(service.settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}))
    without_redis.http.headers = service.http.headers
    response = without_redis.http.post("/unlearn-jobs", json=body())
    assert response.status_code == 202
    assert service.http.get(response.headers["location"]).json()["state"] == "queued"


def test_an_accepted_job_is_answered_for_even_if_its_place_cannot_be_read(service: Service) -> None:
    with service.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE clients DROP COLUMN turn_at")
    response = service.http.post("/unlearn-jobs", json=body())
    assert (response.status_code, response.json()["queue_position"]) == (202, None)


def test_a_failing_commit_leaves_nothing_behind(service: Service) -> None:
    with service.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE job_events CASCADE")
    problem(service.http.post("/unlearn-jobs", json=body()), 500, "internal-error")
    assert service.stored_inputs() == []
    assert service.stored_jobs() == 0


def lose_the_connection(service: Service, trigger: str) -> None:
    """Makes Postgres drop the connection that inserts a job, when the trigger fires."""
    body_of = "BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END"
    with service.engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$ {body_of} $$")
        connection.exec_driver_sql(f"CREATE {trigger} FOR EACH ROW EXECUTE FUNCTION lose()")


def test_a_connection_lost_before_the_commit_leaves_nothing_behind(service: Service) -> None:
    lose_the_connection(service, "TRIGGER t BEFORE INSERT ON jobs")
    problem(service.http.post("/unlearn-jobs", json=body()), 503, "unavailable")
    assert service.stored_inputs() == []


def test_a_connection_lost_in_the_commit_leaves_the_inputs_to_the_reaper(service: Service) -> None:
    """Such a commit may still succeed. Its inputs must exist then."""
    lose_the_connection(service, "CONSTRAINT TRIGGER t AFTER INSERT ON jobs DEFERRABLE INITIALLY DEFERRED")
    problem(service.http.post("/unlearn-jobs", json=body()), 503, "unavailable")
    assert service.stored_jobs() == 0
    assert len(service.stored_inputs()) == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_storage_that_cant_be_written_is_no_fault_of_the_service(
    service: Service, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(number, "as the system says it")

    monkeypatch.setattr(FileBlobStore, "adopt_inputs", full)
    response = service.http.post("/unlearn-jobs", json=body())
    problem(response, 503, "unavailable")
    assert response.headers["retry-after"]
    assert service.stored_jobs() == 0
