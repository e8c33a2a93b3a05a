"""Downloads over connections that break."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.client.conftest import PAIRS, Service
from tests.client.relay import relay
from vgid_client import Client, Conflict, IntegrityError, Job
from vgid_client.download import sha256_of


@pytest.fixture
def finished(service: Service, client: Client, archive: Path) -> Job:
    job = client.submit("tiny", PAIRS)
    service.succeed(job.id, service.claim(job.id), archive)
    return client.get(job.id)


def test_the_bytes_arrive_under_the_wished_name(client: Client, finished: Job, archive: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "my.zip"
    digest = sha256_of(archive) if archive.exists() else finished.artifact and finished.artifact.sha256
    assert client.download(finished, target) == target
    assert sha256_of(target) == digest
    assert [file.name for file in target.parent.iterdir()] == ["my.zip"]


def test_a_cut_download_goes_on_where_it_stopped(service: Service, finished: Job, tmp_path: Path) -> None:
    assert finished.artifact is not None
    with relay(service.port) as broken, Client(broken.url, service.secret) as client:
        broken.cuts = [150_000, 100_000]
        target = client.download(finished, tmp_path / "my.zip")
    assert sha256_of(target) == finished.artifact.sha256


def test_a_second_call_resumes_the_first(service: Service, client: Client, finished: Job, tmp_path: Path) -> None:
    target = tmp_path / "my.zip"
    assert finished.artifact is not None
    begun = tmp_path / f".my.zip.{finished.artifact.sha256[:16]}.part"
    client.download(finished, target)
    begun.write_bytes(target.read_bytes()[:390_000])
    target.unlink()
    with relay(service.port) as narrow, Client(narrow.url, service.secret) as resuming:
        narrow.cuts = [30_000, 0, 0, 0, 0, 0]  # enough for the rest, not for the whole
        resuming.download(finished, target)
    assert sha256_of(target) == finished.artifact.sha256
    assert not begun.exists()


def test_wrong_bytes_never_get_the_name(client: Client, finished: Job, tmp_path: Path) -> None:
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
    assert sha256_of(target) == finished.artifact.sha256


def test_no_artifact_yet(client: Client, tmp_path: Path) -> None:
    job = client.submit("tiny", PAIRS)
    with pytest.raises(Conflict):
        client.download(job, tmp_path / "my.zip")
    assert list(tmp_path.glob("*.part")) == []
