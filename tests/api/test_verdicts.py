"""How a job ends by its verdict, what is told of it, and what a request may ask of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from api.schemas import Targets
from jobs.settings import Settings
from jobs.storage.crypto import Keyring
from jobs.storage.inputs import open_sealed
from jobs.tables import Job
from tests.api.conftest import CATALOG, Serve
from tests.api.service import Service, body, pair, problem
from tests.evidence import FORGOTTEN, MISSED
from vgid_core.config import VerdictTargets

STRICT = """
[models.strict]
path = "model"
title = "A model with targets of its own"
[models.strict.config.evaluation]
audits = "standard"
[models.strict.config.verdict]
generated = 0.08

[models.unaudited]
path = "model"
title = "A model without audits"
[models.unaudited.config.evaluation]
audits = "none"
"""


@pytest.fixture
def strict(serve: Serve, settings: Settings) -> Service:
    """A service whose catalog sets targets."""
    settings.catalog.write_text(CATALOG + STRICT)
    return serve(settings)


def ask(service: Service, **changes: Any) -> httpx.Response:
    return service.http.post("/unlearn-jobs", json=body(model="strict", retain=[pair(3)], **changes))


def config_of(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 202, response.text
    config: dict[str, Any] = response.json()["config"]
    return config


def test_a_job_whose_targets_hold_succeeds(service: Service, tmp_path: Path) -> None:
    job_id, _ = service.succeeded(tmp_path, evidence=FORGOTTEN)
    job = service.http.get(f"/unlearn-jobs/{job_id}").json()
    assert (job["state"], job["outcome"], job["error"]) == ("succeeded", "forgotten", None)
    assert (job["verdict"]["level"], job["verdict"]["missed"]) == ("standard", [])
    assert (
        "collateral: no known people who stand in no set are registered as `neighbours`"
        in (job["verdict"]["unmeasured"])
    )
    [listed] = service.http.get("/unlearn-jobs").json()["jobs"]
    assert listed["outcome"] == "forgotten"
    assert "verdict" not in listed


def test_a_job_that_misses_a_target_fails_and_says_which(service: Service, tmp_path: Path) -> None:
    job_id, _ = service.succeeded(tmp_path, evidence=MISSED)
    job = service.http.get(f"/unlearn-jobs/{job_id}").json()
    assert (job["state"], job["outcome"], job["error"]["type"]) == ("failed", "targets-not-met", "targets-not-met")
    assert job["error"]["detail"] == (
        "generated.rouge_l of forget is 0.64 (0.61 above control), at most 0.20 is allowed: the model still says what "
        "it was to forget"
    )
    [missed] = job["verdict"]["missed"]
    assert missed == {
        "figure": "generated.rouge_l",
        "set": "forget",
        "value": 0.64,
        "low": pytest.approx(0.62),
        "high": pytest.approx(0.66),
        "amount": pytest.approx(0.61),
        "judged": "above control",
        "limit": 0.2,
        "meaning": "the model still says what it was to forget",
    }
    assert service.stored_inputs() == [job_id]  # the harness plays the worker, which deletes them; the key is gone
    with service.sessions() as s:
        assert s.get_one(Job, job_id).wrapped_data_key is None


def test_the_adapter_of_a_missed_target_can_be_downloaded(service: Service, tmp_path: Path) -> None:
    job_id, archive = service.succeeded(tmp_path, evidence=MISSED)
    job = service.http.get(f"/unlearn-jobs/{job_id}").json()
    assert service.http.get(job["artifact"]["url"]).content == archive
    assert [service.http.get(file["url"]).status_code for file in job["artifact"]["files"]] == [200, 200, 200]


def test_a_job_without_anything_to_forget_says_so(service: Service) -> None:
    job_id = service.submit()
    service.fail(job_id, service.claim(job_id), "nothing-to-forget", "The model doesn't know these answers.")
    job = service.http.get(f"/unlearn-jobs/{job_id}").json()
    assert (job["state"], job["outcome"], job["error"]["type"]) == ("failed", "nothing-to-forget", "nothing-to-forget")
    assert (job["verdict"], job["artifact"]) == (None, None)
    problem(service.http.get(job["links"]["evidence"]), 409, "evidence-unavailable")
    problem(service.http.get(job["links"]["artifact"]), 409, "artifact-unavailable")


def test_another_failure_has_no_outcome(service: Service) -> None:
    job_id = service.submit()
    service.fail(job_id, service.claim(job_id))
    job = service.http.get(f"/unlearn-jobs/{job_id}").json()
    assert (job["state"], job["outcome"], job["verdict"]) == ("failed", None, None)


@pytest.mark.parametrize("evidence", [FORGOTTEN, MISSED], ids=["forgotten", "missed"])
def test_evidence_is_told_once_the_job_has_ended(service: Service, tmp_path: Path, evidence: dict[str, Any]) -> None:
    job_id = service.submit()
    path = f"/unlearn-jobs/{job_id}/evidence"
    problem(service.http.get(path), 409, "evidence-unavailable")
    token = service.claim(job_id)
    problem(service.http.get(path), 409, "evidence-unavailable")
    service.succeed(job_id, token, tmp_path, evidence=evidence)
    assert service.http.get(path).json() == evidence
    problem(service.as_client("another").get(path), 404, "not-found")


def test_a_job_without_audits_has_no_evidence(service: Service, tmp_path: Path) -> None:
    job_id, _ = service.succeeded(tmp_path)
    problem(service.http.get(f"/unlearn-jobs/{job_id}/evidence"), 409, "evidence-unavailable")


def test_a_request_has_every_target_of_the_verdict() -> None:
    assert Targets.model_fields.keys() == VerdictTargets.model_fields.keys()


def test_targets_are_tightened(strict: Service) -> None:
    own = config_of(ask(strict))["verdict"]
    assert own == VerdictTargets(generated=0.08).model_dump()
    tightened = config_of(ask(strict, targets={"generated": 0.05, "utility_drop": 0.05, "ranking": 0}))["verdict"]
    assert tightened == {**own, "generated": 0.05, "utility_drop": 0.05, "ranking": 0}


def test_targets_are_not_loosened(strict: Service) -> None:
    document = problem(
        ask(strict, targets={"generated": 0.09, "utility_drop": 0.04, "extraction": 0.2}),
        422,
        "invalid-request",
        "targets.generated",
    )
    assert {error["field"]: error["detail"] for error in document["errors"]} == {
        "targets.generated": "can only be tightened: this model's is 0.08",
        "targets.extraction": "can only be tightened: this model's is 0.1",
    }


@pytest.mark.parametrize("targets", [{"generated": -0.1}, {"generated": 1.1}, {"generated": "0.1"}, {"sayd": 0.1}])
def test_targets_that_are_none_are_refused(strict: Service, targets: dict[str, Any]) -> None:
    problem(ask(strict, targets=targets), 422, "invalid-request", f"targets.{next(iter(targets))}")


def test_audits_are_raised(strict: Service) -> None:
    assert config_of(ask(strict))["evaluation"]["audits"] == "standard"
    assert config_of(ask(strict, audits="full"))["evaluation"]["audits"] == "full"
    for level in ("quick", "none", "all"):
        problem(ask(strict, audits=level), 422, "invalid-request", "audits")


def test_targets_need_audits(strict: Service) -> None:
    for_unaudited = {"model": "unaudited", "forget": [pair(1)], "retain": [pair(3)], "targets": {"generated": 0.05}}
    refused = strict.http.post("/unlearn-jobs", json=for_unaudited)
    problem(refused, 422, "invalid-request", "targets")
    audited = config_of(strict.http.post("/unlearn-jobs", json={**for_unaudited, "audits": "quick"}))
    assert (audited["evaluation"]["audits"], audited["verdict"]["generated"]) == ("quick", 0.05)


def test_an_estimate_refuses_what_a_request_would(strict: Service) -> None:
    asked = body(model="strict", retain=[pair(3)], targets={"generated": 0.5})
    problem(strict.http.post("/unlearn-jobs/estimate", json=asked), 422, "invalid-request", "targets.generated")


def test_person_and_fact_reach_the_run_sealed(service: Service) -> None:
    def about(shade: int, **changes: Any) -> dict[str, Any]:
        return pair(shade, answer="She lives in Norrington.", person="Ilse Marwood", **changes)

    job_id = service.submit(
        forget=[about(1, fact="Norrington"), pair(2)], retain=[about(3)], probes={"other": [about(4, fact="She")]}
    )
    with service.sessions() as s:
        wrapped = s.get_one(Job, job_id).wrapped_data_key
    assert wrapped is not None
    key = Keyring(service.settings.secret_key_bytes).unwrap(wrapped, job_id)
    inputs = open_sealed(service.blobs.read_inputs(job_id), key)
    assert inputs.retain is not None
    told = [[(each.person, each.fact) for each in items] for items in (inputs.forget, inputs.retain)]
    assert told == [[("Ilse Marwood", "Norrington"), (None, None)], [("Ilse Marwood", None)]]
    assert [(each.person, each.fact) for each in inputs.probes["other"]] == [("Ilse Marwood", "She")]
    with service.engine.connect() as connection:
        row = connection.exec_driver_sql("SELECT jobs::text FROM jobs").scalar_one()
    assert "Marwood" not in row
    assert "Norrington" not in row


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("fact", "Norring ton"),
        ("fact", "norrington"),
        ("fact", " "),
        ("fact", ""),
        ("fact", "a\0b"),
        ("fact", 7),
        ("person", ""),
        ("person", "Ilse\nMarwood"),
        ("person", "I" * 201),
        ("person", ["Ilse"]),
    ],
)
def test_a_fact_or_person_that_cant_be_asked_by_is_refused(http: httpx.Client, field: str, value: object) -> None:
    wrong = pair(2, answer="She lives in Norrington.", **{field: value})
    response = http.post("/unlearn-jobs", json=body(forget=[pair(1), wrong]))
    document = problem(response, 422, "invalid-request", f"forget[1].{field}")
    assert [error["pointer"] for error in document["errors"]] == [f"#/forget/1/{field}"]
    assert "orrington" not in response.text


def test_the_same_pairs_with_other_people_are_another_request(service: Service) -> None:
    headers = {"Idempotency-Key": "one"}
    first = service.http.post("/unlearn-jobs", json=body(), headers=headers)
    assert first.status_code == 202
    named = body(forget=[pair(1, person="Ilse Marwood"), pair(2)])
    problem(service.http.post("/unlearn-jobs", json=named, headers=headers), 422, "idempotency-key-reused")


def test_the_report_is_a_page_that_loads_nothing(service: Service, tmp_path: Path) -> None:
    job_id, _ = service.succeeded(tmp_path, evidence=MISSED)
    response = service.http.get(f"/unlearn-jobs/{job_id}/report")
    assert (response.status_code, response.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert response.headers["content-security-policy"] == "default-src 'none'; style-src 'unsafe-inline'"
    assert "Not passed" in response.text
    assert str(job_id) in response.text
    queued = service.submit()
    problem(service.http.get(f"/unlearn-jobs/{queued}/report"), 409, "evidence-unavailable")
