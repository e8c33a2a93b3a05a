"""The OpenAPI document: complete, consistent with the routes, and usable by a generator."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from api.problems import Problem

METHODS = [
    ("/unlearn-jobs", "post"),
    ("/unlearn-jobs", "get"),
    ("/unlearn-jobs/{job_id}", "get"),
    ("/unlearn-jobs/{job_id}/cancel", "post"),
    ("/unlearn-jobs/{job_id}/events", "get"),
    ("/unlearn-jobs/{job_id}/metrics", "get"),
    ("/unlearn-jobs/{job_id}/receipt", "get"),
    ("/.well-known/vgid-keys.json", "get"),
    ("/unlearn-jobs/{job_id}/evidence", "get"),
    ("/unlearn-jobs/{job_id}/report", "get"),
    ("/unlearn-jobs/{job_id}/artifact", "get"),
    ("/unlearn-jobs/{job_id}/artifact/files/{name}", "get"),
    ("/models", "get"),
    ("/models/{model}/release", "get"),
    ("/models/{model}/release/adapter", "get"),
    ("/unlearn-jobs/{job_id}/replay-set", "get"),
    ("/unlearn-jobs/{job_id}/replay-set", "delete"),
    ("/unlearn-jobs/{job_id}/replay-set/receipt", "get"),
    ("/healthz", "get"),
    ("/readyz", "get"),
    ("/openapi.json", "get"),
    ("/unlearn-jobs/estimate", "post"),
    ("/evaluations", "post"),
    ("/evaluations", "get"),
    ("/evaluations/{job_id}", "get"),
    ("/evaluations/{job_id}/cancel", "post"),
    ("/evaluations/{job_id}/events", "get"),
    ("/evaluations/{job_id}/metrics", "get"),
    ("/evaluations/{job_id}/evidence", "get"),
    ("/evaluations/{job_id}/receipt", "get"),
]


@pytest.fixture
def document(http: httpx.Client) -> dict[str, Any]:
    described: dict[str, Any] = http.get("/openapi.json").json()
    return described


def test_every_route_is_described(document: dict[str, Any]) -> None:
    described = {(path, method) for path, operations in document["paths"].items() for method in operations}
    assert described == set(METHODS)
    for path, method in METHODS:
        operation = document["paths"][path][method]
        assert operation["summary"]
        assert operation["description"]
        assert "HTTPValidationError" not in json.dumps(operation)


def test_operations_have_names_that_stay(document: dict[str, Any]) -> None:
    """Generated clients name their functions after these. One that changes breaks its callers."""
    named = [
        (operation["operationId"], path) for path, each in document["paths"].items() for operation in each.values()
    ]
    assert sorted(named) == [
        ("cancel_evaluation", "/evaluations/{job_id}/cancel"),
        ("cancel_job", "/unlearn-jobs/{job_id}/cancel"),
        ("check_alive", "/healthz"),
        ("check_ready", "/readyz"),
        ("delete_replay_set", "/unlearn-jobs/{job_id}/replay-set"),
        ("download_artifact", "/unlearn-jobs/{job_id}/artifact"),
        ("download_file", "/unlearn-jobs/{job_id}/artifact/files/{name}"),
        ("download_release", "/models/{model}/release/adapter"),
        ("estimate_job", "/unlearn-jobs/estimate"),
        ("get_evaluation", "/evaluations/{job_id}"),
        ("get_evaluation_events", "/evaluations/{job_id}/events"),
        ("get_evaluation_evidence", "/evaluations/{job_id}/evidence"),
        ("get_evaluation_metrics", "/evaluations/{job_id}/metrics"),
        ("get_evaluation_receipt", "/evaluations/{job_id}/receipt"),
        ("get_events", "/unlearn-jobs/{job_id}/events"),
        ("get_evidence", "/unlearn-jobs/{job_id}/evidence"),
        ("get_job", "/unlearn-jobs/{job_id}"),
        ("get_metrics", "/unlearn-jobs/{job_id}/metrics"),
        ("get_openapi", "/openapi.json"),
        ("get_receipt", "/unlearn-jobs/{job_id}/receipt"),
        ("get_release", "/models/{model}/release"),
        ("get_replay_set", "/unlearn-jobs/{job_id}/replay-set"),
        ("get_replay_set_receipt", "/unlearn-jobs/{job_id}/replay-set/receipt"),
        ("get_report", "/unlearn-jobs/{job_id}/report"),
        ("get_signing_keys", "/.well-known/vgid-keys.json"),
        ("list_evaluations", "/evaluations"),
        ("list_jobs", "/unlearn-jobs"),
        ("list_models", "/models"),
        ("submit_evaluation", "/evaluations"),
        ("submit_job", "/unlearn-jobs"),
    ]


def test_tags_and_the_server_are_described(document: dict[str, Any]) -> None:
    used = {tag for each in document["paths"].values() for operation in each.values() for tag in operation["tags"]}
    assert used == {tag["name"] for tag in document["tags"] if tag["description"]}
    assert [server["url"] for server in document["servers"]] == ["/"]


def test_no_default_is_an_object_or_a_list(document: dict[str, Any]) -> None:
    """Generators drop a schema with one, and with it every operation that answers with this schema."""
    schemas = document["components"]["schemas"]
    assert "default" not in schemas["UnlearnConfig"]["properties"]["method"]
    text = json.dumps(document)
    assert '"default": {' not in text
    assert '"default": [' not in text


def test_downloads_are_described_as_bytes(document: dict[str, Any]) -> None:
    """Also as `application/octet-stream`: of other types many generators don't know that they are bytes."""
    artifact = "/unlearn-jobs/{job_id}/artifact"
    for path, kind in ((artifact, "application/zip"), (f"{artifact}/files/{{name}}", "application/json")):
        for status in ("200", "206"):
            content = document["paths"][path]["get"]["responses"][status]["content"]
            assert {kind, "application/octet-stream"} <= content.keys()
            assert all(each["schema"] == {"type": "string", "format": "binary"} for each in content.values())


def test_only_health_and_public_keys_are_open(document: dict[str, Any]) -> None:
    assert document["components"]["securitySchemes"]["ApiKey"]["scheme"] == "bearer"
    open_to_all = ("/healthz", "/readyz", "/.well-known/vgid-keys.json")
    for path, method in METHODS:
        secured = document["paths"][path][method].get("security")
        assert secured == (None if path in open_to_all else [{"ApiKey": []}])


def test_errors_are_problem_documents(document: dict[str, Any]) -> None:
    for path, method in METHODS:
        responses = document["paths"][path][method]["responses"]
        errors = {status: response for status, response in responses.items() if int(status) >= 400}
        assert {"500", "503"} <= errors.keys()
        for response in errors.values():
            schema = response["content"]["application/problem+json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/ProblemDocument"}


def test_headers_of_every_answer_are_described(document: dict[str, Any]) -> None:
    for path, method in METHODS:
        operation = document["paths"][path][method]
        for status, response in operation["responses"].items():
            counted = "security" in operation and status != "401"
            quotas = {"RateLimit", "RateLimit-Policy"}
            assert response["headers"].keys() >= {"API-Version"} | (quotas if counted else set()), (path, status)
            assert counted or not quotas & response["headers"].keys()


def test_no_http_at_all_is_described_on_every_path(document: dict[str, Any]) -> None:
    for path, method in METHODS:
        assert "`malformed-request`" in document["paths"][path][method]["responses"]["400"]["description"]


def test_every_kind_of_problem_is_named_somewhere(document: dict[str, Any]) -> None:
    """All but 405, which belongs to no described operation."""
    text = json.dumps(document["paths"])
    slugs = {kind.slug for kind in Problem.__subclasses__()} - {"method-not-allowed"}
    assert {slug for slug in slugs if f"`{slug}`" not in text} == set()


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return own + [found for value in node.values() for found in references(value)]
        return [found for value in node for found in references(value)] if isinstance(node, list) else []

    found = references(document)
    assert "#/components/schemas/SubmitRequest" in found
    for reference in found:
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]


def test_the_example_of_a_submission_is_accepted(http: httpx.Client, document: dict[str, Any]) -> None:
    content = document["paths"]["/unlearn-jobs"]["post"]["requestBody"]["content"]
    assert set(content) == {"application/json", "multipart/form-data"}
    example = content["application/json"]["examples"]["inline"]["value"]
    response = http.post("/unlearn-jobs", json=example)
    assert response.status_code == 202, response.text
