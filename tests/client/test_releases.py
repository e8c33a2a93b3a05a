"""The client and the command line on a model's releases, and on kits."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from jobs.releases import NewKit
from tests.client.conftest import PAIRS, Service
from tests.client.test_cli import vgid
from tests.evidence import FORGOTTEN
from vgid_client import Client
from vgid_client.errors import Conflict, IntegrityError, NotFound


def released(service: Service, client: Client, archive: Path, **release: object) -> str:
    """A job whose adapter is the current release."""
    job = client.submit("tiny", PAIRS, subject_reference="case 7", repeat=True)
    service.succeed(job.id, service.claim(job.id), archive, FORGOTTEN, **release)
    return job.id


def test_a_release_is_shown_and_fetched(service: Service, client: Client, archive: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        client.release("tiny")
    first, second = (released(service, client, archive) for _ in range(2))
    found = client.release("tiny")
    assert (found.number, found.requests, found.checked, found.unchecked) == (2, 2, 1, 1)
    assert [(each.job_id, each.still_forgotten) for each in found.own] == [(first, None), (second, True)]

    to = tmp_path / "served" / "release.zip"
    done = vgid(service, "release", "tiny", "--to", to)
    assert done.returncode == 0, done.stderr
    assert to.read_bytes() == archive.read_bytes()
    assert "2 requests: 1 still forgotten, 1 without a kit: nobody can say" in done.stdout
    assert f"{first}  not re-checked since release 1" in done.stdout
    assert json.loads(vgid(service, "release", "tiny", "--json").stdout)["adapter_sha256"] == found.adapter_sha256
    assert vgid(service, "release", "other").returncode == 3


def test_a_download_that_isnt_what_was_named_is_refused(
    service: Service, client: Client, archive: Path, tmp_path: Path
) -> None:
    released(service, client, archive)
    stored = service.blobs.path_of_artifact(hashlib.sha256(archive.read_bytes()).hexdigest())
    data = bytearray(stored.read_bytes())
    data[0] ^= 1
    stored.write_bytes(data)
    with pytest.raises(IntegrityError):
        client.download_release("tiny", tmp_path / "release.zip")
    assert not list(tmp_path.glob("*release*"))


def test_a_kit_is_asked_for_shown_and_ended(
    service: Service, client: Client, archive: Path, request_file: Path
) -> None:
    typed = ("submit", request_file, "--model", "tiny", "--kit-days", "30", "--subject-reference", "case 7")
    assert client.get(vgid(service, *typed).stdout.strip()).state == "queued"
    for job in client.list_jobs().jobs:
        client.cancel(job)
    kept = released(service, client, archive, kit=NewKit(b"wrapped", 5, 30))
    assert "5 pairs are kept, sealed, until" in vgid(service, "kit", kept).stdout
    with pytest.raises(Conflict):
        client.kit_receipt(kept)
    refused = vgid(service, *typed)
    assert (refused.returncode, f"{kept} has done it" in refused.stderr) == (3, True)
    assert vgid(service, *typed, "--repeat").returncode == 0

    done = vgid(service, "kit", kept, "--end")
    assert "its key is destroyed, and its file is deleted" in done.stdout
    assert client.kit(kept).ended_at is not None
    client.end_kit(kept)
    with pytest.raises(NotFound):
        client.kit(released(service, client, archive))
