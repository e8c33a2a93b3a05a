"""Blobs: the encrypted inputs of jobs, kept until their job ends, and the artifacts of succeeded jobs."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Protocol
from uuid import UUID

from jobs.storage.folder_lock import locked
from jobs.storage.room import require_room

_CHUNK_BYTES = 1024 * 1024
_SHA256 = re.compile(r"[0-9a-f]{64}")


class BlobMissing(Exception):
    """There is no such blob. It was deleted, or never written."""


class BlobStore(Protocol):
    """A place for blobs. A write is durable once it returns. A crash leaves a blob whole or absent, never in part."""

    def put_inputs(self, job_id: UUID, sealed: bytes) -> None:
        """Stores a job's encrypted inputs."""

    def scratch_file(self) -> Path:
        """A path at which a file may be made that somebody else may delete after a crash."""

    def adopt_inputs(self, job_id: UUID, scratch: Path) -> None:
        """Stores a job's encrypted inputs from a scratch file, whose bytes are durable. The file is gone then."""

    def read_inputs(self, job_id: UUID) -> bytes:
        """A job's encrypted inputs. Raises BlobMissing."""

    def delete_inputs(self, job_id: UUID) -> None:
        """Deletes a job's inputs. Does nothing when they are gone."""

    def inputs_older_than(self, seconds: float) -> list[UUID]:
        """The jobs whose inputs were written at least `seconds` ago."""

    def put_replay_set(self, job_id: UUID, sealed: bytes) -> None:
        """Stores a job's sealed replay set, in the place of an earlier one."""

    def read_replay_set(self, job_id: UUID) -> bytes:
        """A job's sealed replay set. Raises BlobMissing."""

    def delete_replay_set(self, job_id: UUID) -> None:
        """Deletes a job's replay set. Does nothing when it is gone."""

    def replay_sets_older_than(self, seconds: float) -> list[UUID]:
        """The jobs whose replay sets were written at least `seconds` ago."""

    def put_artifact(self, source: Path) -> tuple[str, int]:
        """Stores a copy of the file under the sha256 of its bytes. Returns sha256 (hex) and size (bytes).

        If it is stored already, it counts as written now.
        """

    def artifacts_older_than(self, seconds: float) -> list[str]:
        """The sha256 of each artifact that was last stored at least `seconds` ago."""

    def delete_artifact(self, sha256: str, *, older_than: float) -> bool:
        """Deletes an artifact that was last stored at least `older_than` seconds ago. Returns whether it did."""

    def path_of_artifact(self, sha256: str) -> Path:
        """A local file with the artifact's bytes. Raises BlobMissing."""

    def delete_unfinished(self, older_than: float) -> None:
        """Deletes the partial files of writes that crashed at least `older_than` seconds ago."""

    def require_room(self, free_bytes: int) -> None:
        """Raises OSError where fewer bytes are free, or nothing can be written."""


class FileBlobStore:
    """A BlobStore in one folder that its owner alone can read.

    Inputs are inputs/<job>/request.bin, replay sets are replay_sets/<job>.bin, artifacts are artifacts/ab/<sha256>.zip.
    """

    def __init__(self, root: Path) -> None:
        self._inputs = root / "inputs"
        self._replay_sets = root / "replay_sets"
        self._artifacts = root / "artifacts"
        self._unfinished = root / "unfinished"
        with suppress(FileNotFoundError):
            (root / "kits").rename(self._replay_sets)  # its former name
        for folder in (root, self._inputs, self._replay_sets, self._artifacts, self._unfinished):
            _make_folder(folder)

    def put_inputs(self, job_id: UUID, sealed: bytes) -> None:
        """Stores a job's encrypted inputs."""
        self._write_atomically(lambda file: _write(file, sealed), self._input_file(job_id))

    def scratch_file(self) -> Path:
        """A path at which a file may be made. `delete_unfinished` deletes it."""
        return self._unfinished / secrets.token_hex(16)

    def adopt_inputs(self, job_id: UUID, scratch: Path) -> None:
        """Stores a job's encrypted inputs from a scratch file."""
        target = self._input_file(job_id)
        _make_folder(target.parent)
        scratch.replace(target)
        _sync_folder(target.parent)

    def read_inputs(self, job_id: UUID) -> bytes:
        """A job's encrypted inputs. Raises BlobMissing."""
        try:
            return self._input_file(job_id).read_bytes()
        except FileNotFoundError:
            raise BlobMissing(f"job {job_id} has no inputs") from None

    def delete_inputs(self, job_id: UUID) -> None:
        """Deletes a job's inputs. Does nothing when they are gone."""
        folder = self._input_file(job_id).parent
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            return
        _sync_folder(folder.parent)

    def inputs_older_than(self, seconds: float) -> list[UUID]:
        """The jobs whose inputs were written at least `seconds` ago."""
        return [UUID(file.parent.name) for file in _older_than(self._inputs.glob("*/request.bin"), seconds)]

    def put_replay_set(self, job_id: UUID, sealed: bytes) -> None:
        """Stores a job's sealed replay set, in the place of an earlier one."""
        self._write_atomically(lambda file: _write(file, sealed), self._replay_set_file(job_id))

    def read_replay_set(self, job_id: UUID) -> bytes:
        """A job's sealed replay set. Raises BlobMissing."""
        try:
            return self._replay_set_file(job_id).read_bytes()
        except FileNotFoundError:
            raise BlobMissing(f"job {job_id} has no replay set") from None

    def delete_replay_set(self, job_id: UUID) -> None:
        """Deletes a job's replay set. Does nothing when it is gone."""
        self._replay_set_file(job_id).unlink(missing_ok=True)
        _sync_folder(self._replay_sets)

    def replay_sets_older_than(self, seconds: float) -> list[UUID]:
        """The jobs whose replay sets were written at least `seconds` ago."""
        return [UUID(file.stem) for file in _older_than(self._replay_sets.glob("*.bin"), seconds)]

    def put_artifact(self, source: Path) -> tuple[str, int]:
        """Stores a copy of the file under the sha256 of its bytes. Returns sha256 (hex) and size (bytes)."""
        with source.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            target = self._artifact_file(sha256)
            if not _touch_if_stored(target):
                file.seek(0)
                self._write_atomically(lambda copy: shutil.copyfileobj(file, copy, _CHUNK_BYTES), target)
        return sha256, target.stat().st_size

    def artifacts_older_than(self, seconds: float) -> list[str]:
        """The sha256 of each artifact that was last stored at least `seconds` ago."""
        return [file.stem for file in _older_than(self._artifacts.glob("*/*.zip"), seconds)]

    def delete_artifact(self, sha256: str, *, older_than: float) -> bool:
        """Deletes an artifact that was last stored at least `older_than` seconds ago. Returns whether it did."""
        target = self._artifact_file(sha256)
        _make_folder(target.parent)
        with locked(target.parent):
            old = bool(_older_than([target], older_than))
            if old:
                target.unlink()
        return old

    def path_of_artifact(self, sha256: str) -> Path:
        """The artifact's file. Raises BlobMissing."""
        path = self._artifact_file(sha256)
        if not path.is_file():
            raise BlobMissing(f"no artifact {sha256}")
        return path

    def delete_unfinished(self, older_than: float) -> None:
        """Deletes the partial files of writes that crashed at least `older_than` seconds ago."""
        for file in _older_than(self._unfinished.iterdir(), older_than):
            file.unlink(missing_ok=True)

    def require_room(self, free_bytes: int) -> None:
        """Raises OSError where fewer bytes are free, or nothing can be written."""
        require_room(self._unfinished, free_bytes)

    def _input_file(self, job_id: UUID) -> Path:
        return self._inputs / str(job_id) / "request.bin"

    def _replay_set_file(self, job_id: UUID) -> Path:
        return self._replay_sets / f"{job_id}.bin"

    def _artifact_file(self, sha256: str) -> Path:
        if not _SHA256.fullmatch(sha256):
            raise ValueError("not a sha256 in hex")
        return self._artifacts / sha256[:2] / f"{sha256}.zip"

    def _write_atomically(self, write: Callable[[BinaryIO], None], target: Path) -> None:
        """Writes a temporary file, makes its bytes durable, then renames it to `target`."""
        temporary = self.scratch_file()
        try:
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            _make_folder(target.parent)
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(target.parent)


def _write(file: BinaryIO, data: bytes) -> None:
    file.write(data)


def _touch_if_stored(artifact: Path) -> bool:
    """Sets the artifact's time to now, under the lock that deletion takes. False if it isn't stored."""
    _make_folder(artifact.parent)
    with locked(artifact.parent):
        if not artifact.exists():
            return False
        os.utime(artifact)
        return True


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Makes the file names in `folder` durable. A file's own fsync doesn't."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _older_than(paths: Iterable[Path], seconds: float) -> list[Path]:
    limit = time.time() - seconds
    found = []
    for path in paths:
        try:
            if path.stat().st_mtime <= limit:
                found.append(path)
        except FileNotFoundError:  # its owner has just deleted it
            continue
    return found
