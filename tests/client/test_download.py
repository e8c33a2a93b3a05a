"""Downloads over connections that break."""

from __future__ import annotations

from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.client.conftest import PAIRS, Service
from tests.client.relay import relay
from vgid_client import Client, Conflict, IntegrityError, Job


@pytest.fixture
def finished(service: Service, client: Client, archive: Path) -> Job:
    job = client.submit("tiny", PAIRS)
    service.succeed(job.id, service.claim(job.id), archive)
    return client.get(job.id)


def test_the_bytes_arrive_under_the_given_name(client: Client, finished: Job, archive: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "my.zip"
    assert client.download(finished, target) == target
    assert target.read_bytes() == archive.read_bytes()
    assert [file.name for file in target.parent.iterdir()] == ["my.zip"]


def test_a_cut_download_resumes(service: Service, finished: Job, archive: Path, tmp_path: Path) -> None:
    with relay(service.port) as broken, Client(broken.url, service.secret) as client:
        broken.cuts = [150_000, 100_000]
        target = client.download(finished, tmp_path / "my.zip")
    assert target.read_bytes() == archive.read_bytes()


def test_a_second_call_resumes_the_first(service: Service, finished: Job, archive: Path, tmp_path: Path) -> None:
    target = tmp_path / "my.zip"
    assert finished.artifact is not None
    begun = tmp_path / f".my.zip.{finished.artifact.sha256[:16]}.part"
    begun.write_bytes(archive.read_bytes()[:390_000])
    with relay(service.port) as narrow, Client(narrow.url, service.secret) as resuming:
        narrow.cuts = [30_000, 0, 0, 0, 0, 0]  # enough for the rest, not for the whole
        resuming.download(finished, target)
    assert target.read_bytes() == archive.read_bytes()
    assert not begun.exists()


def test_wrong_bytes_never_get_the_name(client: Client, finished: Job, archive: Path, tmp_path: Path) -> None:
    target = tmp_path / "my.zip"
    target.write_bytes(b"an older one")
    assert finished.artifact is not None
    begun = tmp_path / f".my.zip.{finished.artifact.sha256[:16]}.part"
    begun.write_bytes(b"x" * 1000)
    with pytest.raises(IntegrityError):
        client.download(finished, target)
    assert target.read_bytes() == b"an older one"
    assert not begun.exists()
    client.download(finished, target)
    assert target.read_bytes() == archive.read_bytes()


def test_a_job_without_an_artifact_is_a_conflict(client: Client, tmp_path: Path) -> None:
    job = client.submit("tiny", PAIRS)
    with pytest.raises(Conflict):
        client.download(job, tmp_path / "my.zip")
    assert list(tmp_path.glob("*.part")) == []


def test_an_answer_without_an_end_is_given_up(service: Service, finished: Job, tmp_path: Path) -> None:
    sent: list[int] = []

    class Endless(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            with suppress(OSError):
                for _ in range(64):
                    sent.append(self.wfile.write(bytes(1 << 20)))

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Endless) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        with Client(f"http://127.0.0.1:{server.server_port}", service.secret) as misled, pytest.raises(IntegrityError):
            misled.download(finished, tmp_path / "my.zip")
        server.shutdown()
    assert len(sent) < 64
    assert list(tmp_path.glob("*my.zip*")) == []
