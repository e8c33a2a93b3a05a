"""A running service for the tests: its clients over HTTP, and the writes to its ledger that a worker would make."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import socket
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
from PIL import Image

from jobs import claims, endings
from jobs.clients import access
from jobs.database import make_engine, session_factory
from jobs.lines.releases import NewReplaySet
from jobs.queueing.queue import JobQueue
from jobs.settings import Settings
from jobs.signing import keys as signing_keys
from jobs.signing.receipt import sign_receipts
from jobs.storage.blobs import FileBlobStore
from jobs.storage.input_cleanup import delete_inputs
from jobs.tables import Right
from tests.evidence import MANIFEST
from tests.lines import new_artifact
from vgid_core.progress import Phase, Progress

MEMBERS = {
    "adapter_config.json": b'{"peft_type": "LORA"}',
    "adapter_model.safetensors": bytes(range(256)) * 8,
    "README.md": b"# adapter\n",
}


def png(shade: int = 0, size: tuple[int, int] = (8, 8), kind: str = "PNG") -> bytes:
    """A small picture. Each shade gives other bytes."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (shade % 256, shade // 256, 99)).save(buffer, kind)
    return buffer.getvalue()


def inline(data: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(data).decode()}


def pair(shade: int = 0, **changes: Any) -> dict[str, Any]:
    return {"image": inline(png(shade)), "question": "Who is this?", "answer": "Ilse Marwood", **changes}


def body(**changes: Any) -> dict[str, Any]:
    """A valid request with these changes. A change to None leaves the field out."""
    whole = {"model": "demo", "forget": [pair(1), pair(2)], **changes}
    return {name: value for name, value in whole.items() if value is not None}


@contextmanager
def sending(http: httpx.Client, request: dict[str, Any], path: str = "/unlearn-jobs") -> Iterator[socket.socket]:
    """A connection on which the request is sent, and its answer isn't read. It is closed with the context."""
    whole = http.build_request("POST", path, json=request)
    head = "".join(f"{name}: {value}\r\n" for name, value in whole.headers.items())
    with socket.create_connection((whole.url.host, whole.url.port), timeout=20) as connection:
        connection.sendall(f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + whole.read())
        yield connection


class Service:
    """One service with one client, whose key `http` sends."""

    def __init__(self, url: str, settings: Settings) -> None:
        self.url = url
        self.settings = settings
        self.engine = make_engine(settings)
        self.sessions = session_factory(self.engine)
        self.blobs = FileBlobStore(settings.blob_dir)
        self.queue = JobQueue(settings.redis_url)
        self.opened: list[httpx.Client] = []
        self.name = f"client {uuid4()}"
        self.http = self.as_client(self.name)
        self.documented = self.http.get("/openapi.json").json()["paths"]

    def as_client(self, name: str, *rights: Right) -> httpx.Client:
        """A new key with these rights over HTTP, of the client of this name, who is made if it is new."""
        with self.sessions.begin() as s:
            _, secret = access.create_key(s, access.find_client(s, name) or access.create_client(s, name), rights)
        return self.open(Authorization=f"Bearer {secret}")

    def open(self, **headers: str) -> httpx.Client:
        hooks = {"response": [self._is_documented]}
        http = httpx.Client(base_url=self.url, headers=headers, event_hooks=hooks, trust_env=False, timeout=20)
        self.opened.append(http)
        return http

    def submit(self, http: httpx.Client | None = None, **changes: Any) -> UUID:
        response = (http or self.http).post("/unlearn-jobs", json=body(**changes))
        assert response.status_code == 202, response.text
        return UUID(response.json()["id"])

    def submit_evaluation(self, **changes: Any) -> UUID:
        response = self.http.post("/evaluations", json=body(**changes))
        assert response.status_code == 202, response.text
        return UUID(response.json()["id"])

    def measured(self, evidence: dict[str, Any], **changes: Any) -> UUID:
        """Makes an evaluation that has ended with this evidence. Returns its id."""
        job_id = self.submit_evaluation(**changes)
        token = self.claim(job_id)
        self.measure(job_id, token, "before", 0.98)
        with self.sessions.begin() as s:
            assert endings.finish_evaluation(s, job_id, token, evidence) is not None
        return job_id

    def claim(self, job_id: UUID) -> UUID:
        """Claims the job as a worker does. Returns the token."""
        with self.sessions.begin() as s:
            claimed = claims.claim(s, job_id, "test worker", 30)
        assert claimed is not None
        return claimed.token

    def report(self, job_id: UUID, token: UUID, phase: Phase = Phase.distilling, fraction: float = 0.4) -> None:
        progress = Progress(phase, 24, 60, fraction, loss_forget=1.5, loss_retain=0.25, seconds_left=12.0)
        with self.sessions.begin() as s:
            assert claims.held_job(s, job_id, token)
            assert claims.report(s, token, progress)

    def measure(self, job_id: UUID, token: UUID, stage: str, value: float) -> None:
        row = claims.MetricRow(split="forget", name="rouge_l", value=value, pairs=2)
        with self.sessions.begin() as s:
            assert claims.save_metrics(s, job_id, token, stage, [row])  # type: ignore[arg-type]

    def fail(
        self,
        job_id: UUID,
        token: UUID,
        error_type: str = "out-of-memory",
        detail: str = "The device has too little memory.",
    ) -> None:
        with self.sessions.begin() as s:
            assert claims.held_job(s, job_id, token)
            endings.fail(s, token, error_type, detail)

    def succeed(
        self,
        job_id: UUID,
        token: UUID,
        folder: Path,
        members: dict[str, bytes] = MEMBERS,
        evidence: dict[str, Any] | None = None,
        **release: Any,
    ) -> bytes:
        """Ends the job with a real zip in the blob store, as its evidence says. Returns the zip's bytes."""
        path = folder / f"{uuid4()}.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        sha256, size = self.blobs.put_artifact(path)
        files = [{"name": n, "sha256": hashlib.sha256(d).hexdigest(), "size": len(d)} for n, d in members.items()]
        with self.sessions.begin() as s:
            stored = {"sha256": sha256, "size": size, "files": files, "manifest": MANIFEST}
            artifact = new_artifact(s, job_id, evidence, **stored, **release)
            endings.finish(s, job_id, token, artifact)
        return path.read_bytes()

    def succeeded(
        self,
        folder: Path,
        members: dict[str, bytes] = MEMBERS,
        evidence: dict[str, Any] | None = None,
        replay_set: NewReplaySet | None = None,
        http: httpx.Client | None = None,
        release: dict[str, Any] | None = None,
        **request: Any,
    ) -> tuple[UUID, bytes]:
        """Makes a job, of the client of `http`, that has ended with an adapter. Returns its id and the zip's bytes."""
        job_id = self.submit(http, **request)
        token = self.claim(job_id)
        self.measure(job_id, token, "before", 0.98)
        self.report(job_id, token)
        self.measure(job_id, token, "after", 0.03)
        return job_id, self.succeed(job_id, token, folder, members, evidence, replay_set=replay_set, **(release or {}))

    def delete_inputs(self, job_id: UUID) -> None:
        """Deletes the ended job's uploads, as a worker does."""
        delete_inputs(self.sessions, self.blobs, job_id)

    def sign_receipts(self) -> list[UUID]:
        """Signs what is due, as a worker does, with a key that is made at the first call."""
        root = self.settings.signing_keys
        assert root is not None
        if not root.exists():
            with self.sessions.begin() as s:
                signing_keys.create(s, root)
        return sign_receipts(self.sessions, root)

    def stored_jobs(self) -> int:
        return len(self.http.get("/unlearn-jobs?limit=100").json()["jobs"])

    def scratch_files(self) -> list[Path]:
        """What requests that aren't answered yet have on disk."""
        return list((self.settings.blob_dir / "unfinished").iterdir())

    def decoding(self) -> list[Path]:
        """The notes of checks that decode an image now, or were killed while they did."""
        found = []
        for file in self.scratch_files():
            with suppress(FileNotFoundError):
                if b'["forget"' in file.read_bytes():
                    found.append(file)
        return found

    def stored_inputs(self) -> list[UUID]:
        return self.blobs.inputs_older_than(-60)

    def close(self) -> None:
        for http in self.opened:
            http.close()
        self.queue.close()
        self.engine.dispose()

    def _is_documented(self, response: httpx.Response) -> None:
        """Fails unless the OpenAPI document lists this error's status for its route."""
        if response.status_code < 400:
            return
        for template, operations in getattr(self, "documented", {}).items():
            operation = operations.get(response.request.method.lower())
            if operation and re.fullmatch(re.sub(r"{[^}]+}", "[^/]+", template), response.request.url.path):
                assert str(response.status_code) in operation["responses"], f"{response.status_code} at {template}"


def problem(response: httpx.Response, status: int, slug: str, field: str | None = None) -> dict[str, Any]:
    """Checks what all problem documents have in common, and returns this one."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["type"] == f"urn:vgid:problem:{slug}"
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    assert document["instance"] == f"urn:vgid:request:{response.headers['x-request-id']}"
    assert "Traceback" not in json.dumps(document)
    if field is not None:
        assert field in [error["field"] for error in document["errors"]], document
    return document
