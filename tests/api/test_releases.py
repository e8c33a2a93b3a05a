"""A model's current release over HTTP: what is to be served, and what it holds."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from jobs.lines import rebuilds
from jobs.tables import Right
from tests.api.service import Service, body, problem
from tests.evidence import FORGOTTEN, MISSED

URL = "/models/demo/release"


def test_without_a_release_it_says_so(service: Service) -> None:
    for path in (URL, f"{URL}/adapter"):
        assert "No release of this model is current" in problem(service.http.get(path), 404, "no-release")["detail"]
        problem(service.http.get(path.replace("demo", "other")), 404, "not-found")
        problem(service.open().get(path), 401, "unauthenticated")


def test_the_current_release_and_its_adapter(service: Service, tmp_path: Path) -> None:
    operator = service.as_client(service.name, Right.serve)
    first, _ = service.succeeded(tmp_path, evidence=FORGOTTEN)
    service.succeeded(tmp_path, evidence=MISSED)
    second, packed = service.succeeded(tmp_path, evidence=FORGOTTEN)

    answer = operator.get(URL)
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    assert (shown["model"], shown["number"], shown["parent"], shown["state"]) == ("demo", 3, 1, "current")
    assert (shown["requests"], shown["checked"], shown["unchecked"], shown["rank"]) == (2, 1, 1, 4)
    assert [UUID(each["job_id"]) for each in shown["own"]] == [first, second]
    assert [(each["still_forgotten"], each["checked_in"]) for each in shown["own"]] == [(None, 1), (True, 3)]
    assert shown["drift"] == 0.0

    etag = f'"{shown["adapter_sha256"]}"'
    assert answer.headers["etag"] == etag
    assert operator.get(URL, headers={"If-None-Match": etag}).status_code == 304
    assert operator.get(URL, headers={"If-None-Match": '"other"'}).status_code == 200
    download = operator.get(shown["adapter"])
    assert (download.content, download.headers["content-type"]) == (packed, "application/zip")
    assert 'filename="vgid-demo-3.zip"' in download.headers["content-disposition"]


def test_who_is_forgotten_already_is_forgotten_again_only_if_asked(service: Service, tmp_path: Path) -> None:
    service.succeeded(tmp_path, evidence=FORGOTTEN, subject_reference="case 7")
    [job] = service.http.get("/unlearn-jobs").json()["jobs"]
    again = body(subject_reference="case 7")
    refused = problem(service.http.post("/unlearn-jobs", json=again), 409, "already-forgotten")
    assert f"/unlearn-jobs/{job['id']} has done it" in refused["detail"]
    assert "case 7" not in str(refused)
    assert service.http.post("/unlearn-jobs", json={**again, "repeat": True}).status_code == 202
    assert service.http.post("/unlearn-jobs", json=body(subject_reference="case 8")).status_code == 202
    assert service.as_client("another").post("/unlearn-jobs", json=again).status_code == 202
    assert service.http.post("/evaluations", json=again).status_code == 202


def test_one_that_did_not_pass_has_forgotten_nobody(service: Service, tmp_path: Path) -> None:
    service.succeeded(tmp_path, evidence=MISSED, subject_reference="case 7")
    assert service.http.post("/unlearn-jobs", json=body(subject_reference="case 7")).status_code == 202


def test_whom_a_new_base_does_not_hold_is_listed_for_its_client_alone(service: Service, tmp_path: Path) -> None:
    first, _ = service.succeeded(tmp_path, evidence=FORGOTTEN)
    assert service.http.get(URL).json()["not_held"] == []
    second = service.submit()
    service.succeed(second, service.claim(second), tmp_path, evidence=FORGOTTEN, base_digest="d" * 64)
    shown = service.http.get(URL).json()
    assert [UUID(each) for each in shown["not_held"]] == [first]
    assert [UUID(each["job_id"]) for each in shown["own"]] == [second]
    assert service.as_client("another", Right.serve).get(URL).json()["not_held"] == []


def test_a_job_says_that_it_waits_for_a_rebuild(service: Service) -> None:
    waiting = service.http.post("/unlearn-jobs", json=body()).json()
    assert waiting["waits_for"] is None
    with service.sessions.begin() as s:
        rebuild = rebuilds.order(s, "demo", None, 0).id
    assert service.http.get(f"/unlearn-jobs/{waiting['id']}").json()["waits_for"] == "rebuild"
    # Nobody's request: no client sees it.
    problem(service.http.get(f"/unlearn-jobs/{rebuild}"), 404, "not-found")
