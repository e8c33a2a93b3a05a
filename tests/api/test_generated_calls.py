"""Calls that are generated from the OpenAPI document: none gets a 5xx, or an answer that isn't documented."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from jobs.clients.access import find_client, set_limits
from jobs.clients.limits import ClientLimits
from tests.api.service import Service

CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "allow_header_conformance", "unsupported_method", "ignored_auth",
)  # fmt: skip


@pytest.mark.slow
def test_generated_calls_are_answered_as_documented(service: Service, tmp_path: Path) -> None:
    key = service.as_client("generated").headers["authorization"]
    with service.sessions.begin() as s:
        generated = find_client(s, "generated")
        assert generated is not None
        set_limits(s, generated, ClientLimits(requests_per_minute=1_000_000, queued_jobs=1_000_000))
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{service.url}/openapi.json"]
    options = [
        "--phases",
        "examples,coverage,fuzzing,stateful",
        "--max-examples",
        "15",
        "--continue-on-failure",
        "--seed",
        "1",
    ]
    done = subprocess.run(
        [*command, *options, "--checks", ",".join(CHECKS), "-H", f"Authorization: {key}"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]
