"""A client that a generator makes of the live document: it submits, polls, lists models and downloads."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.api.service import Service, body

NAME = "generated_vgid_client"
Call = Callable[..., Any]


@pytest.fixture
def generated(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Call]:
    """Calls a function of the client by its tag and operation. The generator runs in this process, without network."""
    from openapi_python_client.cli import app

    document, options = tmp_path / "openapi.json", tmp_path / "options.json"
    document.write_bytes(service.http.get("/openapi.json").content)
    options.write_text(json.dumps({"post_hooks": []}))  # it would format the code
    done = CliRunner().invoke(
        app,
        ["generate", "--path", str(document), "--output-path", str(tmp_path / NAME), "--config", str(options),
         "--meta", "none", "--fail-on-warning"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "Warning" not in done.output
    monkeypatch.syspath_prepend(tmp_path)
    key = service.http.headers["authorization"].removeprefix("Bearer ")
    client = importlib.import_module(NAME).AuthenticatedClient(base_url=service.url, token=key)

    def call(tag: str, operation: str, *arguments: Any, **named: Any) -> Any:
        module = importlib.import_module(f"{NAME}.api.{tag}.{operation}")
        return module.sync_detailed(*arguments, client=client, **named)

    with client:
        yield call
    for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
        del sys.modules[name]


@pytest.mark.slow
def test_a_generated_client_submits_polls_lists_models_and_downloads(
    service: Service, generated: Call, tmp_path: Path
) -> None:
    models = importlib.import_module(f"{NAME}.models")
    request = models.SubmitRequest.from_dict(body(external_id="DSR-1", metadata={"region": "eu"}))
    submitted = generated("jobs", "submit_job", body=request, idempotency_key="DSR-1")
    assert submitted.status_code == 202
    job = submitted.parsed
    assert (job.state, job.external_id) == ("queued", "DSR-1")

    polled = generated("jobs", "get_job", job.id).parsed
    assert (polled.id, polled.state) == (job.id, "queued")
    listed = generated("jobs", "list_jobs", metadata=["region=eu"], sort=models.ListJobsSort("-due_at"), total=True)
    assert ([each.id for each in listed.parsed.jobs], listed.parsed.total) == ([job.id], 1)

    found = generated("models", "list_models").parsed.models
    assert [each.name for each in found] == ["demo", "bare", "rich"]
    assert found[0].config.training.steps == 60
    assert found[0].config.method.name == "vgid"

    job_id, data = service.succeeded(tmp_path)
    record = generated("jobs", "get_job", job_id).parsed
    assert (record.state, record.artifact.size_bytes) == ("succeeded", len(data))
    assert generated("artifacts", "download_artifact", job_id).parsed.payload.read() == data
    readme = generated("artifacts", "download_file", job_id, "README.md")
    assert readme.parsed.payload.read() == b"# adapter\n"

    refused = generated("jobs", "cancel_job", job_id)
    assert (refused.status_code, refused.parsed.type_) == (409, "urn:vgid:problem:job-ended")
