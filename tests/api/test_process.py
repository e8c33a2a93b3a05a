"""The service as an operator runs it: in a process of its own, which is stopped and killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import httpx
import pytest

from jobs.settings import Settings
from tests.api.service import Service, body, pair
from tests.api.test_artifact import asking_for_artifact, slow_connection
from tests.api.test_events import STREAM, frames
from tests.api.test_submit import EVERYTHING, inputs_of
from tests.waiting import eventually


class Process:
    """`python -m api.server`, with its log in a file."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.log_file = folder / "api.log"
        url = f"http://127.0.0.1:{port}"
        values = settings.model_dump(mode="json") | {
            "secret_key": settings.secret_key.get_secret_value(),
            "database_url": settings.database_url,
        }
        environment = {
            f"VGID_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
            for name, value in values.items()
            if value is not None
        }
        command = [sys.executable, "-m", "api.server"]
        with self.log_file.open("wb") as log:
            self.child = subprocess.Popen(
                [*command, "--port", str(port)], env={**os.environ, **environment}, stdout=log, stderr=log
            )
        eventually(lambda: self._answers(url), seconds=60)
        self.service = Service(url, settings)

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log_file.read_text().splitlines()]

    def close(self) -> None:
        self.service.close()
        self.child.kill()
        self.child.wait(timeout=20)

    def _answers(self, url: str) -> bool:
        assert self.child.poll() is None, self.log_file.read_text()
        try:
            return httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False


@pytest.fixture
def process(settings: Settings, tmp_path: Path) -> Iterator[Process]:
    process = Process(settings, tmp_path)
    yield process
    process.close()


def test_a_kill_after_the_202_loses_nothing(process: Process) -> None:
    service = process.service
    response = service.http.post("/unlearn-jobs", json=body(**EVERYTHING))
    process.child.kill()
    process.child.wait(timeout=20)
    assert response.status_code == 202
    job_id = UUID(response.json()["id"])
    assert len(inputs_of(service, job_id).forget) == 2
    service.claim(job_id)


def test_it_stops_at_once_while_a_stream_is_open(process: Process) -> None:
    service = process.service
    path = f"/unlearn-jobs/{service.submit()}/events"
    with service.http.stream("GET", path, headers=STREAM) as response:
        stream = frames(response)
        assert next(stream)["event"] == "state"
        process.child.send_signal(signal.SIGTERM)
        assert list(stream) == []
    process.child.wait(timeout=10)
    assert process.child.returncode in (0, -signal.SIGTERM)


def test_an_aborted_download_is_logged_as_499(process: Process, tmp_path: Path) -> None:
    job_id, _ = process.service.succeeded(tmp_path, {"adapter_model.safetensors": Random(0).randbytes(20_000_000)})
    with slow_connection(process.service) as connection:
        connection.sendall(asking_for_artifact(process.service, job_id))
        assert connection.recv(1)
    eventually(lambda: [line for line in process.log() if line.get("status") == 499])
    assert not [line for line in process.log() if line["level"] == "error"]


def test_the_log_is_json_without_personal_data(process: Process) -> None:
    service = process.service
    name = "Ilse Marwood"
    job_id = service.submit(**EVERYTHING)
    service.http.get("/unlearn-jobs", params={"external_id": name})
    service.http.get("/unlearn-jobs", params={"subject_reference": name})
    service.http.get("/unlearn-jobs", headers={"Subject-Reference": name})
    service.http.get(f"/unlearn-jobs/{name}")
    service.http.get(f"/{name}")
    service.http.post("/unlearn-jobs", json=body(forget=[pair(answer=name, image=name)], **{name: name}))
    with service.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE job_events CASCADE")
    crashed = service.http.post("/unlearn-jobs", json=body(external_id=name), headers={"X-Request-ID": "crash-1"})
    assert crashed.status_code == 500
    eventually(lambda: [line for line in process.log() if line.get("status") == 500])
    text = process.log_file.read_text()
    for secret in ("Marwood", "Who is this", "Traceback", "DSR-1", "external_id=", "?"):
        assert secret not in text
    assert not [line for line in process.log() if line["logger"].startswith("alembic")]
    requests = [line for line in process.log() if line["message"] == "request"]
    accepted = {"method": "POST", "route": "/unlearn-jobs", "status": 202, "job": str(job_id)}
    assert accepted.items() <= requests[-8].items()
    crash = [line for line in process.log() if line.get("request_id") == "crash-1"]
    assert [line["message"] for line in crash] == ["request crashed", "request"]
    assert crash[0]["error"] == "ProgrammingError"


def test_importing_the_api_loads_no_torch() -> None:
    script = "import sys, api.main; print([m for m in ('torch', 'transformers', 'peft', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr
