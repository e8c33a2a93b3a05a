"""What holds for every route of the OpenAPI document, also for one that is added later."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path

import pytest

from api.routing import API_VERSION
from jobs.lines import replay_sets
from jobs.lines.releases import NewReplaySet
from tests.api.service import Service, body, problem
from tests.evidence import FORGOTTEN

SECRET = "Ilse Marwood"


@pytest.fixture
def paths(service: Service, tmp_path: Path) -> dict[str, str]:
    """A real path for each of the document's paths, on jobs that have succeeded."""
    job_id, _ = service.succeeded(tmp_path, evidence=FORGOTTEN, replay_set=NewReplaySet(b"wrapped", 5, 30))
    service.delete_inputs(job_id)
    with service.sessions.begin() as s:
        replay_sets.end_replay_set(s, job_id)
    replay_sets.delete_replay_set_file(service.sessions, service.blobs, job_id)
    evaluation_id = service.measured(FORGOTTEN)
    service.delete_inputs(evaluation_id)
    service.sign_receipts()
    return {
        path: path.format(
            job_id=evaluation_id if path.startswith("/evaluations") else job_id, name="README.md", model="demo"
        )
        for path in service.documented
    }


def operations(service: Service) -> Iterator[tuple[str, str]]:
    """Method and path of each operation, and HEAD where there is GET."""
    for path, methods in service.documented.items():
        for method in methods:
            yield method.upper(), path
            if method == "get":
                yield "HEAD", path


def test_an_unknown_query_parameter_is_refused(service: Service, paths: dict[str, str]) -> None:
    for method, path in operations(service):
        response = service.http.request(method, paths[path], params={"dry_run": SECRET})
        assert response.status_code == 422, (method, path)
        if method != "HEAD":
            document = problem(response, 422, "invalid-request", "dry_run")
            assert document["errors"][0]["detail"] == "is not a known parameter"
            assert SECRET not in response.text


def test_a_dry_run_that_is_hoped_for_stores_nothing(service: Service) -> None:
    for query in ("dry_run=true", "dry_run", "%64ry_run=", "=true", "a=1&b=2&" + "x" * 500):
        problem(service.http.post(f"/unlearn-jobs?{query}", json=body()), 422, "invalid-request")
    response = service.http.post("/unlearn-jobs?=true", json=body())
    assert problem(response, 422, "invalid-request")["errors"][0]["field"] == "(query)"
    assert service.stored_jobs() == 0


def test_a_repeated_query_parameter_is_refused(service: Service, paths: dict[str, str]) -> None:
    events = paths["/unlearn-jobs/{job_id}/events"]
    for url, field in ((f"{events}?after=1&after=1", "after"), ("/unlearn-jobs?limit=5&state=queued&limit=1", "limit")):
        document = problem(service.http.get(url), 422, "invalid-request", field)
        assert document["errors"] == [{"field": field, "detail": "is given more than once"}]
    assert service.http.get("/unlearn-jobs?metadata=a=b&metadata=c=d").status_code == 200


def test_a_repeated_header_is_refused(service: Service, paths: dict[str, str]) -> None:
    """Also with the same value: who stands between may have added one."""
    for path, methods in service.documented.items():
        for method, operation in methods.items():
            for each in operation.get("parameters", ()):
                if each["in"] == "header":
                    headers = [(each["name"], "1"), (each["name"].lower(), "1")]
                    response = service.http.request(method, paths[path], headers=headers)
                    (error,) = problem(response, 422, "invalid-request", each["name"])["errors"]
                    assert error["detail"] == "is given more than once"


def test_two_keys_are_none(service: Service) -> None:
    key = service.http.headers["authorization"]
    for other in (key, "Bearer vgid_another"):
        for headers in (
            [("Authorization", key), ("authorization", other)],
            [("Authorization", other), ("authorization", key)],
        ):
            problem(service.open().get("/models", headers=headers), 401, "unauthenticated")


def test_a_key_is_asked_for_before_a_parameter_is_named(service: Service) -> None:
    problem(service.open().get("/models?page=2"), 401, "unauthenticated")


def test_head_answers_like_get_without_a_body(service: Service, paths: dict[str, str]) -> None:
    for path, methods in service.documented.items():
        assert "head" not in methods
        if "get" in methods:
            get, head = service.http.get(paths[path]), service.http.head(paths[path])
            assert (head.status_code, head.content) == (200, b""), path
            for name in ("content-type", "content-length", "etag"):
                assert head.headers.get(name) == get.headers.get(name), path


def test_head_of_an_event_stream_answers_like_the_page(service: Service) -> None:
    """A queued job's stream would stay open."""
    path = f"/unlearn-jobs/{service.submit()}/events"
    response = service.http.head(path, headers={"Accept": "text/event-stream"})
    assert response.headers["content-type"] == "application/json"
    assert response.headers["content-length"] == service.http.get(path).headers["content-length"]


def test_allow_names_every_method_of_the_path(service: Service, paths: dict[str, str]) -> None:
    for path, methods in service.documented.items():
        there = {method.upper() for method in methods} | ({"HEAD"} if "get" in methods else set())
        response = service.http.patch(paths[path])
        problem(response, 405, "method-not-allowed")
        assert sorted(response.headers["allow"].split(", ")) == sorted(there), path
    assert {"GET", "HEAD", "POST"} == set(service.http.put("/unlearn-jobs").headers["allow"].split(", "))


def test_every_answer_carries_the_version_of_the_document(service: Service) -> None:
    assert service.http.get("/openapi.json").json()["info"]["version"] == API_VERSION
    for method, path in (
        ("GET", "/models"), ("HEAD", "/models"), ("GET", "/nothing"), ("DELETE", "/models"), ("GET", "/models?page=2"),
        ("POST", "/unlearn-jobs"),
    ):  # fmt: skip
        assert service.http.request(method, path).headers["api-version"] == API_VERSION
    assert service.open().get("/models").headers["api-version"] == API_VERSION
    host, port = service.http.base_url.host, service.http.base_url.port
    with socket.create_connection((host, port)) as connection:
        connection.sendall(b"no HTTP at all\r\n\r\n")
        answer = HTTPResponse(connection)
        answer.begin()
        assert (answer.status, answer.headers["api-version"]) == (400, API_VERSION)
