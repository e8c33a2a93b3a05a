"""The real API on a free port, with a real ledger. Tests play the worker, by writing to the ledger."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import uvicorn
from PIL import Image
from sqlalchemy.orm import Session, sessionmaker

from api.main import create_app
from jobs import claims, endings
from jobs.clients import access
from jobs.settings import Settings
from jobs.storage.blobs import FileBlobStore
from jobs.tables import Right
from tests.lines import new_artifact
from tests.serving import serving
from tests.signing_keys import Key
from vgid_client import Client, Pair
from vgid_core.data.pairs import EncodedImage, PairSet
from vgid_core.data.pairs import Pair as CorePair
from vgid_core.progress import Phase, Progress


def png(shade: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), (shade, 40, 90)).save(stream, format="PNG")
    return stream.getvalue()


PAIRS = [Pair(png(shade), f"Who is number {shade}?", f"This is number {shade}.") for shade in (1, 2, 3)]


@dataclass
class Service:
    """A running service. `secret` is the key of one of its clients."""

    port: int
    secret: str
    sessions: sessionmaker[Session]
    blobs: FileBlobStore

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def claim(self, job_id: str) -> UUID:
        with self.sessions.begin() as s:
            claim = claims.claim(s, UUID(job_id), "test", 60)
            assert claim is not None
            return claim.token

    def report(self, job_id: str, token: UUID, phase: Phase, fraction: float) -> None:
        progress = Progress(
            phase=phase, step=3, total_steps=6, fraction=fraction, loss_forget=0.5, loss_retain=0.25, seconds_left=9.0
        )
        with self.sessions.begin() as s:
            assert claims.held_job(s, UUID(job_id), token)
            assert claims.report(s, token, progress)

    def measure(self, job_id: str, token: UUID, before: float, after: float) -> None:
        with self.sessions.begin() as s:
            for stage, value in (("before", before), ("after", after)):
                claims.save_metrics(s, UUID(job_id), token, stage, [claims.MetricRow("forget", "rouge_l", value, 3)])

    def succeed(
        self, job_id: str, token: UUID, archive: Path, evidence: dict[str, Any] | None = None, **release: Any
    ) -> None:
        """Ends the job with an adapter, as its evidence says."""
        sha256, size = self.blobs.put_artifact(archive)
        with self.sessions.begin() as s:
            artifact = new_artifact(s, UUID(job_id), evidence, sha256=sha256, size=size, **release)
            assert endings.finish(s, UUID(job_id), token, artifact) is not None

    def fail(
        self,
        job_id: str,
        token: UUID,
        error_type: str = "adapter-untrained",
        detail: str = "2 of 8 adapted modules never moved",
    ) -> None:
        with self.sessions.begin() as s:
            assert claims.held_job(s, UUID(job_id), token)
            assert endings.fail(s, token, error_type, detail)


@pytest.fixture
def service(
    settings: Settings,
    session_factory: sessionmaker[Session],
    tmp_path: Path,
    server_loop: asyncio.AbstractEventLoop,
) -> Iterator[Service]:
    retain = PairSet.of("retain", [CorePair(EncodedImage(png(200)), "What colour?", "Red.")])
    retain.write_jsonl(tmp_path / "retain.jsonl")
    settings.catalog.write_text(
        f'[models.tiny]\npath = {json.dumps(str(tmp_path))}\ntitle = "Tiny"\n'
        '[models.tiny.retain_sets.all]\nretain = "retain.jsonl"\n'
    )
    with session_factory.begin() as s:
        _, secret = access.create_key(s, access.create_client(s, "tester"), [Right.serve])
    config = uvicorn.Config(
        create_app(settings), host="127.0.0.1", port=0, log_config=None, timeout_graceful_shutdown=1
    )
    with serving(config, server_loop) as port:
        yield Service(port, secret, session_factory, FileBlobStore(settings.blob_dir))


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(service.url, service.secret) as opened:
        yield opened


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A zip like an adapter's, of some hundred kB."""
    path = tmp_path / "adapter.zip"
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr("adapter_config.json", "{}")
        opened.writestr("adapter_model.safetensors", bytes((i * i + i // 7) % 251 for i in range(400_000)))
    return path


@pytest.fixture
def key(tmp_path: Path) -> Key:
    return Key.make(tmp_path)


@pytest.fixture
def keys(tmp_path: Path, key: Key) -> Path:
    """The file of keys that an operator has pinned."""
    return key.write(tmp_path / "vgid-keys.json")


@pytest.fixture
def request_file(tmp_path: Path) -> Path:
    folder = tmp_path / "request"
    folder.mkdir()
    lines = []
    for number, pair in enumerate(PAIRS):
        (folder / f"{number}.png").write_bytes(pair.image)
        lines.append(json.dumps({"image": f"{number}.png", "question": pair.question, "answer": pair.answer}))
    path = folder / "forget.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
