"""Downloads an adapter. A cut download resumes, and the target file appears only once its sha256 is right."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from vgid_client.errors import IntegrityError, VgidError
from vgid_client.models import Artifact
from vgid_client.transport import PAUSES, Transport, is_transient

_READ_TIMEOUT_SECONDS = 30.0
_CHUNK_BYTES = 1 << 20


def download(transport: Transport, path: str, artifact: Artifact, target: Path) -> Path:
    """Downloads `path` to `target`, which is replaced in one step once size and sha256 match `artifact`.

    Until then the bytes lie in a part file beside it, named by the sha256, from which a later call resumes. Raises
    IntegrityError (the part file is deleted), Unreachable (it is kept), or OSError from the file system.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{artifact.sha256[:16]}.part")
    for pause in (*PAUSES, None):
        try:
            _fetch(transport, path, artifact, part)
            break
        except VgidError as error:
            if pause is None or not is_transient(error):
                raise
            time.sleep(pause)
    _verify(part, artifact)
    os.replace(part, target)
    return target


def sha256_of(file: Path) -> str:
    """The sha256 of a file's bytes, in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _fetch(transport: Transport, path: str, artifact: Artifact, part: Path) -> None:
    done = part.stat().st_size if part.exists() else 0
    if done == artifact.size_bytes:
        return
    headers = {"Accept-Encoding": "identity"}
    if 0 < done < artifact.size_bytes:
        # With If-Range, an artifact with another sha256 is sent whole (200), not as a range that wouldn't fit (206).
        headers |= {"Range": f"bytes={done}-", "If-Range": f'"{artifact.sha256}"'}
    with transport.stream(path, headers=headers, read_timeout=_READ_TIMEOUT_SECONDS) as response:
        resumed = response.status_code == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {done}-")
        with part.open("ab" if resumed else "wb") as stream:
            for chunk in response.iter_bytes(_CHUNK_BYTES):
                stream.write(chunk)
                if stream.tell() > artifact.size_bytes:
                    break  # it has another size than announced, and might never end
            stream.flush()
            os.fsync(stream.fileno())


def _verify(part: Path, artifact: Artifact) -> None:
    size, digest = part.stat().st_size, sha256_of(part)
    if (size, digest) != (artifact.size_bytes, artifact.sha256):
        part.unlink()
        raise IntegrityError(f"the artifact arrived with sha256 {digest[:12]}…, expected {artifact.sha256[:12]}…")
