"""Evaluations: taken, shown, listed and cancelled as forget requests are, and kept apart from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from jobs import claims, endings
from jobs.clients.access import find_client, set_limits
from jobs.clients.limits import ClientLimits
from jobs.settings import Settings
from jobs.storage.crypto import Keyring
from jobs.storage.inputs import open_sealed
from jobs.tables import Job
from tests.api.conftest import CATALOG, Serve
from tests.api.service import Service, body, pair, png, problem
from tests.evidence import FORGOTTEN, MISSED

UNAUDITED = """
[models.unaudited]
path = "model"
title = "A model without audits"
[models.unaudited.config.evaluation]
audits = "none"
[models.unaudited.retain_sets.all]
retain = "retain.jsonl"
"""


def ask(service: Service, **changes: Any) -> httpx.Response:
    return service.http.post("/evaluations", json=body(**changes))


def test_an_evaluation_of_an_adapter_is_accepted(service: Service, tmp_path: Path) -> None:
    job_id, _ = service.succeeded(tmp_path, evidence=FORGOTTEN)
    response = ask(service, adapter_of=str(job_id), external_id="check-7", priority=-2, probes={"other": [pair(5)]})
    assert response.status_code == 202, response.text
    view = response.json()
    path = f"/evaluations/{view['id']}"
    links = view["links"]
    assert (response.headers["location"], links["self"]) == (path, path)
    assert (links["artifact"], links["report"]) == (None, None)
    assert (view["kind"], view["adapter_of"], view["state"]) == ("evaluate", str(job_id), "queued")
    assert (view["external_id"], view["priority"], view["queue_position"]) == ("check-7", -2, 1)
    assert view["data"] == {
        "forget_pairs": 2, "retain_pairs": None, "retain_set": "demo-retain", "probes": {"other": 1}
    }  # fmt: skip
    assert service.http.get(path).json() == view
    assert UUID(view["id"]) in service.stored_inputs()


def test_its_inputs_are_sealed(service: Service) -> None:
    job_id = service.submit_evaluation(forget=[pair(1, answer="She lives in Norrington.", fact="Norrington")])
    with service.sessions() as s:
        wrapped = s.get_one(Job, job_id).wrapped_data_key
    assert wrapped is not None
    sealed = service.blobs.read_inputs(job_id)
    assert b"Norrington" not in sealed
    inputs = open_sealed(sealed, Keyring(service.settings.secret_key_bytes).unwrap(wrapped, job_id))
    assert [each.fact for each in inputs.forget] == ["Norrington"]
    with service.engine.connect() as connection:
        assert "Norrington" not in connection.exec_driver_sql("SELECT jobs::text FROM jobs").scalar_one()


def test_it_comes_as_multipart_too(service: Service) -> None:
    asked = body(forget=[pair(image={"file": "a"})])
    files = {"request": (None, json.dumps(asked), "application/json"), "a": ("a", png(1), "image/png")}
    response = service.http.post("/evaluations", files=files)
    assert response.status_code == 202, response.text
    assert response.json()["data"]["forget_pairs"] == 1


@pytest.mark.parametrize(
    ("evidence", "outcome"), [(FORGOTTEN, "forgotten"), (MISSED, "targets-not-met")], ids=["forgotten", "missed"]
)
def test_it_succeeds_by_measuring_and_says_what_was_found(
    service: Service, evidence: dict[str, Any], outcome: str
) -> None:
    job_id = service.measured(evidence)
    view = service.http.get(f"/evaluations/{job_id}").json()
    assert (view["state"], view["outcome"], view["error"], view["artifact"]) == ("succeeded", outcome, None, None)
    assert [each["figure"] for each in view["verdict"]["missed"]] == (
        [] if outcome == "forgotten" else ["generated.rouge_l"]
    )
    for link, found in (("evidence", evidence), ("metrics", {"metrics": view["metrics"]})):
        assert service.http.get(view["links"][link]).json() == found
    states = [
        event["data"]["state"]
        for event in service.http.get(view["links"]["events"]).json()["events"]
        if event["kind"] == "state"
    ]
    assert states == ["queued", "running", "succeeded"]


def test_nothing_to_forget_is_an_outcome(service: Service) -> None:
    verdict = {"outcome": "nothing-to-forget", "passed": False, "targets": [], "unmeasured": ["everything else"]}
    view = service.http.get(f"/evaluations/{service.measured({**FORGOTTEN, 'verdict': verdict})}").json()
    assert (view["state"], view["outcome"], view["verdict"]["missed"]) == ("succeeded", "nothing-to-forget", [])


def test_it_fails_where_nothing_could_be_measured(service: Service) -> None:
    job_id = service.submit_evaluation()
    service.fail(job_id, service.claim(job_id), "adapter-for-other-base", "Another base.")
    view = service.http.get(f"/evaluations/{job_id}").json()
    assert (view["state"], view["outcome"], view["error"]["type"]) == ("failed", None, "adapter-for-other-base")
    problem(service.http.get(view["links"]["evidence"]), 409, "evidence-unavailable")


def test_both_kinds_are_kept_apart(service: Service, tmp_path: Path) -> None:
    job_id, _ = service.succeeded(tmp_path)
    evaluation_id = service.measured(FORGOTTEN)
    for path, own, other in (("/unlearn-jobs", job_id, evaluation_id), ("/evaluations", evaluation_id, job_id)):
        page = service.http.get(path, params={"total": "true"}).json()
        assert ([job["id"] for job in page["jobs"]], page["total"]) == ([str(own)], 1)
        for part in ("", "/metrics", "/events", "/evidence"):
            problem(service.http.get(f"{path}/{other}{part}"), 404, "not-found")
        problem(service.http.post(f"{path}/{other}/cancel"), 404, "not-found")
    problem(service.http.get(f"/unlearn-jobs/{evaluation_id}/artifact"), 404, "not-found")


def test_lists_filter_and_page(service: Service) -> None:
    ids = [str(service.submit_evaluation(external_id=f"check-{n % 2}")) for n in range(3)]
    service.submit(external_id="check-0")
    found = service.http.get("/evaluations", params={"external_id": "check-0"}).json()["jobs"]
    assert [job["id"] for job in found] == [ids[2], ids[0]]
    first = service.http.get("/evaluations", params={"limit": 2}).json()
    second = service.http.get("/evaluations", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [job["id"] for job in first["jobs"] + second["jobs"]] == ids[::-1]


def test_the_adapter_must_be_there(service: Service, tmp_path: Path) -> None:
    done, _ = service.succeeded(tmp_path)
    evaluation = service.measured(FORGOTTEN)
    waiting = service.submit()
    theirs = service.as_client("another").post("/unlearn-jobs", json=body()).json()["id"]
    for named, why in (
        (uuid4(), "is none of your unlearning jobs"),
        (theirs, "is none of your unlearning jobs"),
        (evaluation, "is none of your unlearning jobs"),
        (waiting, "is a job without an adapter: only a job whose training has ended has one"),
    ):
        document = problem(ask(service, adapter_of=str(named)), 422, "invalid-request", "adapter_of")
        assert [error["detail"] for error in document["errors"]] == [why]
    refused = ask(service, model="rich", retain_set="people", adapter_of=str(done))
    assert problem(refused, 422, "invalid-request", "adapter_of")["errors"][0]["detail"] == (
        "is a job with another model, demo"
    )
    for malformed in ("7", "", "Ilse Marwood", 7):
        response = ask(service, adapter_of=malformed)
        problem(response, 422, "invalid-request", "adapter_of")
        assert "Marwood" not in response.text
    assert len(service.stored_inputs()) == 2 + 2, "what is refused leaves nothing"


def test_it_has_no_training(service: Service) -> None:
    problem(ask(service, training={"steps": 3}), 422, "invalid-request", "training")
    problem(
        service.http.post("/unlearn-jobs", json=body(adapter_of=str(uuid4()))), 422, "invalid-request", "adapter_of"
    )
    with service.sessions() as s:
        assert s.get_one(Job, service.submit_evaluation()).planned_steps == 0


def test_it_needs_a_retain_set(service: Service) -> None:
    problem(ask(service, model="bare"), 422, "invalid-request", "retain")
    assert ask(service, model="bare", retain=[pair(7)]).status_code == 202


def test_targets_and_audits_are_tightened(serve: Serve, settings: Settings) -> None:
    settings.catalog.write_text(CATALOG + UNAUDITED)
    service = serve(settings)
    config = ask(service, targets={"generated": 0.05}, audits="full").json()["config"]
    assert (config["verdict"]["generated"], config["evaluation"]["audits"]) == (0.05, "full")
    problem(ask(service, targets={"generated": 0.5}), 422, "invalid-request", "targets.generated")
    problem(ask(service, audits="quick"), 422, "invalid-request", "audits")
    of_unaudited = ask(service, model="unaudited", targets={"generated": 0.05}).json()["config"]
    assert of_unaudited["evaluation"]["audits"] == "standard", "without audits there would be nothing to find"


def test_a_key_makes_one_evaluation(service: Service) -> None:
    headers = {"Idempotency-Key": "one"}
    first = service.http.post("/evaluations", json=body(), headers=headers)
    again = service.http.post("/evaluations", json=body(), headers=headers)
    assert (again.status_code, again.headers["idempotency-replayed"]) == (202, "true")
    assert first.json()["id"] == again.json()["id"]
    for path in ("/unlearn-jobs", "/evaluations"):
        other = service.http.post(path, json=body(external_id="another"), headers=headers)
        problem(other, 422, "idempotency-key-reused")
    problem(service.http.post("/unlearn-jobs", json=body(), headers=headers), 422, "idempotency-key-reused")


def test_it_counts_as_waiting(service: Service) -> None:
    with service.sessions.begin() as s:
        client = find_client(s, service.name)
        assert client is not None
        set_limits(s, client, ClientLimits(queued_pairs=3, queued_steps=1))
    service.submit_evaluation()  # two pairs and no step
    assert "3 pairs" in problem(ask(service), 429, "quota-exceeded")["detail"]
    assert ask(service, forget=[pair(1)]).status_code == 202
    problem(ask(service, forget=[pair(1)]), 429, "quota-exceeded")


def test_cancelling_deletes_its_inputs(service: Service) -> None:
    queued, running = service.submit_evaluation(), service.submit_evaluation()
    token = service.claim(running)
    answers = [service.http.post(f"/evaluations/{each}/cancel") for each in (queued, running)]
    assert [answer.status_code for answer in answers] == [200, 202]
    assert answers[0].json()["state"] == "cancelled"
    assert service.stored_inputs() == [running]
    with service.sessions.begin() as s:
        assert endings.finish_evaluation(s, running, token, FORGOTTEN) == "cancelled"
    view = service.http.get(f"/evaluations/{running}").json()
    assert (view["state"], view["outcome"]) == ("cancelled", None)
    ended = service.measured(FORGOTTEN)
    problem(service.http.post(f"/evaluations/{ended}/cancel"), 409, "job-ended")


def test_its_turn_comes_with_forget_requests(service: Service) -> None:
    later, forget, evaluation = service.submit(priority=-3), service.submit(), service.submit_evaluation()
    with service.sessions.begin() as s:
        claimed = [claims.claim_next(s, "test worker", 30) for _ in range(3)]
    assert [claim and claim.job.id for claim in claimed] == [forget, evaluation, None], "two at a time, of both kinds"
    assert service.http.get(f"/unlearn-jobs/{later}").json()["queue_position"] == 1
