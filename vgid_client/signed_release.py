"""A release's zip becomes a folder that holds by the operator's own keys, or an error: it is a stranger's until then.

Nothing here believes the service. `vgid_verify` is imported late: a program that only sends requests doesn't load it.
"""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from vgid_client.download import sha256_of
from vgid_client.errors import DataFileError, UnverifiedRelease

if TYPE_CHECKING:
    from vgid_verify.keys import KeyFile

MOST_BYTES = 32 * 1024**3  # of a release: the adapter of a large model at rank 64 has a few GB
_MOST_MEMBERS = 100
_MOST_TEXT_BYTES = 64 * 1024**2  # of each file besides the weights: these are read into memory
_MOST_READ_BYTES = 1024**2  # at once, which bounds the zip's own list of members
_WEIGHTS = "adapter_model.safetensors"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
_MOST_FAULTS = 3
_ENCRYPTED = 0x1


def pinned_keys(path: Path) -> KeyFile:
    """The keys that the operator trusts. Raises DataFileError."""
    from vgid_verify.keys import KeyFile, KeyFileError

    try:
        return KeyFile.load(path)
    except KeyFileError as error:
        raise DataFileError(f"{path}: {error}") from None


def unpack_verified(archive: Path, folder: Path, keys: KeyFile, model: str, base_digest: str) -> str:
    """Unpacks a release into the new folder and verifies it. Returns the name under which it is to be served.

    model, base_digest: what it has to be for. Raises UnverifiedRelease, and OSError. What was unpacked stays, then.
    """
    try:
        with _Reader(archive) as stream, ZipFile(stream) as packed:
            members = packed.infolist()
            _require_bounded(members, archive.stat().st_size)
            folder.mkdir()
            for member in members:
                with packed.open(member) as source, (folder / member.filename).open("xb") as target:
                    shutil.copyfileobj(source, target, _MOST_READ_BYTES)
    except (UnverifiedRelease, OSError):
        raise
    except Exception:  # of whatever type: the bytes are a stranger's
        raise UnverifiedRelease("the release is no zip that can be unpacked") from None
    require_holds(folder, keys)
    return _served_name(folder, model, base_digest)


def require_same(there: Path, new: Path, keys: KeyFile) -> None:
    """Raises UnverifiedRelease unless what lies there already is the new folder's adapter, and holds."""
    require_holds(there, keys)
    if sha256_of(there / _WEIGHTS) != sha256_of(new / _WEIGHTS):
        raise UnverifiedRelease(f"{there.name} is there already, with other weights")


def require_holds(folder: Path, keys: KeyFile) -> None:
    """Raises UnverifiedRelease, which says what is wrong, unless all signatures and digests are right.

    And unless every request of it has passed: what nobody audited is no release. Raises DataFileError for the key
    file, and OSError.
    """
    from vgid_verify.folder import verify_folder
    from vgid_verify.keys import KeyFileError

    try:
        report = verify_folder(folder, keys)
    except KeyFileError as error:
        raise DataFileError(str(error)) from None
    if not report.holds:
        faults = [f"{check.name}: {check.detail}" for check in report.checks if not check.held]
        more = len(faults) - _MOST_FAULTS
        said = "; ".join(faults[:_MOST_FAULTS]) + (f" (and {more} more)" if more > 0 else "")
        raise UnverifiedRelease(f"the release doesn't hold by your keys: {said}")
    if not report.passed:
        raise UnverifiedRelease(f"the adapter is signed, and is no release: its verdict is {report.outcome}")


def _require_bounded(members: Sequence[ZipInfo], archive_bytes: int) -> None:
    """Raises UnverifiedRelease for more than the zip's own bytes can hold, and for what isn't a plain file's name."""
    names = [member.filename for member in members]
    if len(names) > _MOST_MEMBERS or len({name.lower() for name in names}) < len(names):
        raise UnverifiedRelease(f"the release's zip has over {_MOST_MEMBERS} members, or two of one name")
    if not all(_PLAIN_NAME.fullmatch(name) for name in names):
        raise UnverifiedRelease("the release's zip has a member whose name isn't a plain file's")
    if any(member.compress_type != ZIP_STORED or member.flag_bits & _ENCRYPTED for member in members):
        raise UnverifiedRelease("the release's zip has a compressed member: the service stores them as they are")
    if sum(member.file_size for member in members) > archive_bytes:
        raise UnverifiedRelease("the release's zip has members that overlap")
    if any(member.file_size > _MOST_TEXT_BYTES for member in members if member.filename != _WEIGHTS):
        raise UnverifiedRelease(
            f"the release's zip has a file of over {_MOST_TEXT_BYTES >> 20} MiB besides its weights"
        )


def _served_name(folder: Path, model: str, base_digest: str) -> str:
    """The name that the verified manifest gives. Raises UnverifiedRelease if it is for another model or base."""
    try:
        manifest: Any = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        base, name = manifest["base_model"], manifest["serving"]["name"]
        found = (str(base["name"]), str(base["digest"]))
    except (OSError, ValueError, KeyError, TypeError):
        raise UnverifiedRelease("the release is no adapter with a manifest that names it") from None
    if found != (model, base_digest):
        raise UnverifiedRelease(
            f"the release is signed for another base than that of '{model}' with the digest {base_digest[:12]}…"
        )
    if not isinstance(name, str) or not _PLAIN_NAME.fullmatch(name):
        raise UnverifiedRelease("the release's name can't be a folder's")
    return name


class _Reader(io.BufferedReader):
    """Reads a file in bounded pieces, however long a list of members the zip announces, and wherever it says it is."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))

    def read(self, size: int | None = -1, /) -> bytes:
        """At most a MiB."""
        bounded = _MOST_READ_BYTES if size is None or size < 0 else min(size, _MOST_READ_BYTES)
        return super().read(bounded)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Raises ValueError for a place before the file, which isn't the disk's fault."""
        if whence == io.SEEK_SET and offset < 0:
            raise ValueError("a place before the file")
        return super().seek(offset, whence)
