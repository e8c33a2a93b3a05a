"""Blobs: each is whole or absent, private, and deleted for good."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from uuid import uuid4

import pytest

from jobs.storage.blobs import BlobMissing, FileBlobStore


def test_inputs_are_read_back_until_deleted(blobs: FileBlobStore) -> None:
    job_id = uuid4()
    blobs.put_inputs(job_id, b"sealed")
    assert blobs.read_inputs(job_id) == b"sealed"
    blobs.delete_inputs(job_id)
    blobs.delete_inputs(job_id)
    with pytest.raises(BlobMissing):
        blobs.read_inputs(job_id)


def test_only_the_owner_can_read(blobs: FileBlobStore, tmp_path: Path) -> None:
    blobs.put_inputs(uuid4(), b"sealed")
    source = tmp_path / "adapter.zip"
    source.write_bytes(b"zip")
    blobs.put_artifact(source)
    for path in (tmp_path / "blobs").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_an_artifact_is_addressed_by_its_bytes(blobs: FileBlobStore, tmp_path: Path) -> None:
    source = tmp_path / "adapter.zip"
    source.write_bytes(b"PK" * 1_000_000)
    sha256, size = blobs.put_artifact(source)
    assert (sha256, size) == (hashlib.sha256(b"PK" * 1_000_000).hexdigest(), 2_000_000)
    stored = blobs.path_of_artifact(sha256)
    assert stored.read_bytes() == source.read_bytes()
    assert stored.relative_to(tmp_path) == Path("blobs", "artifacts", sha256[:2], f"{sha256}.zip")
    before = stored.stat().st_ino
    assert blobs.put_artifact(source) == (sha256, size)
    assert stored.stat().st_ino == before  # an older job may name this file, so it isn't rewritten


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, "a" * 63])
def test_a_name_that_is_no_sha256_is_refused(blobs: FileBlobStore, name: str) -> None:
    with pytest.raises(ValueError, match="sha256"):
        blobs.path_of_artifact(name)


def test_an_unknown_artifact_is_missing(blobs: FileBlobStore) -> None:
    with pytest.raises(BlobMissing):
        blobs.path_of_artifact("0" * 64)


def test_a_failed_write_leaves_nothing(blobs: FileBlobStore, tmp_path: Path) -> None:
    in_the_way = uuid4()
    (tmp_path / "blobs" / "inputs" / str(in_the_way)).touch()
    with pytest.raises(OSError, match=r"exists|directory"):
        blobs.put_inputs(in_the_way, b"sealed")
    assert list((tmp_path / "blobs" / "unfinished").iterdir()) == []


def test_old_inputs_and_unfinished_writes_are_found_by_age(blobs: FileBlobStore, tmp_path: Path) -> None:
    old, new = uuid4(), uuid4()
    blobs.put_inputs(old, b"sealed")
    blobs.put_inputs(new, b"sealed")
    crashed = tmp_path / "blobs" / "unfinished" / "crashed"
    crashed.touch()
    for path in (crashed, tmp_path / "blobs" / "inputs" / str(old) / "request.bin"):
        os.utime(path, (0, 0))
    assert blobs.inputs_older_than(3600) == [old]
    blobs.delete_unfinished(3600)
    assert not crashed.exists()


def test_storing_an_artifact_again_makes_it_young_again(blobs: FileBlobStore, tmp_path: Path) -> None:
    source = tmp_path / "adapter.zip"
    source.write_bytes(b"PK")
    sha256, _ = blobs.put_artifact(source)
    os.utime(blobs.path_of_artifact(sha256), (0, 0))
    assert blobs.artifacts_older_than(3600) == [sha256]
    blobs.put_artifact(source)
    assert blobs.artifacts_older_than(3600) == []
    assert not blobs.delete_artifact(sha256, older_than=3600)
    assert blobs.path_of_artifact(sha256).read_bytes() == b"PK"
    assert blobs.delete_artifact(sha256, older_than=-60)
    assert not blobs.delete_artifact(sha256, older_than=-60)
    assert blobs.put_artifact(source) == (sha256, 2)
    assert blobs.path_of_artifact(sha256).read_bytes() == b"PK"


def test_replay_sets_are_found_in_the_folder_of_former_versions(tmp_path: Path) -> None:
    job_id = uuid4()
    FileBlobStore(tmp_path).put_replay_set(job_id, b"sealed")
    (tmp_path / "replay_sets").rename(tmp_path / "kits")
    assert FileBlobStore(tmp_path).read_replay_set(job_id) == b"sealed"
