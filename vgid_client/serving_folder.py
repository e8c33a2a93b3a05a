"""A folder that a server reads adapters from: one folder an adapter, named as it is served.

vLLM's filesystem resolver wants it so. A release holds by the operator's own keys before it gets there, and it is there
before the old one goes.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from vgid_client.client import Client
from vgid_client.errors import NotFound, UnverifiedRelease, VgidError
from vgid_client.models import Release
from vgid_client.signed_release import MOST_BYTES, pinned_keys, require_same, unpack_verified

if TYPE_CHECKING:
    from vgid_verify.keys import KeyFile

_RECORD = ".vgid-{model}.json"
_UNFINISHED = ".vgid-unfinished-"
_ABANDONED_SECONDS = 24 * 3600.0
_NO_RELEASE = "urn:vgid:problem:no-release"


def export_release(client: Client, model: str, folder: Path, keys: Path) -> tuple[Path, bool]:
    """Puts the model's current release into the folder, and takes away the one that this put there before.

    keys: the key file that the operator trusts. Returns the release's own folder, whose name is the adapter's on the
    server and carries its digest; and whether it is new. Other folders are left alone. Raises VgidError (DataFileError
    for the key file, UnverifiedRelease for what doesn't hold by it), or OSError; then the folder is as it was.
    """
    trusted = pinned_keys(keys)
    return _export(client, model, client.release(model), folder, trusted)


def _export(client: Client, model: str, release: Release, folder: Path, keys: KeyFile) -> tuple[Path, bool]:
    if release.model != model or (release.zip_bytes or 0) > MOST_BYTES:
        raise UnverifiedRelease(f"the service names another model's release, or one of over {MOST_BYTES >> 30} GiB")
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    record = folder / _RECORD.format(model=model)
    with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=folder) as work:
        archive, unpacked = Path(work) / "release.zip", Path(work) / "adapter"
        client.download_release(release, archive)
        name = unpack_verified(archive, unpacked, keys, model, release.base_digest)
        target = folder / name
        new = not target.exists()
        if new:
            os.replace(unpacked, target)
        else:
            require_same(target, unpacked, keys)
    before = _recorded(record)
    _write(record, name)
    if before is not None and before != name:
        shutil.rmtree(folder / before, ignore_errors=True)
    return target, new


def withdraw(model: str, folder: Path) -> Path | None:
    """Takes away the release that `export_release` put there. Returns its folder, None if there is none."""
    record = folder / _RECORD.format(model=model)
    before = _recorded(record)
    if before is None:
        return None
    if (folder / before).exists():
        shutil.rmtree(folder / before)
    record.unlink()  # last: what is still there stays on record
    return folder / before


def pull(
    client: Client,
    model: str,
    folder: Path,
    keys: Path,
    pause: Callable[[], bool],
    changed: Callable[[Path], None],
    failed: Callable[[VgidError | OSError], None],
) -> None:
    """Exports each new release as it becomes current. Where none is current any more, takes away what was.

    keys: as for `export_release`, read in every round. pause: waits, and is false to stop. changed: told each new
    folder. failed: told why a round did nothing; the next one tries again. An unchanged release costs no download
    unless the key file changes.
    """
    known: tuple[str, KeyFile] | None = None
    while True:
        try:
            known = _round(client, model, folder, pinned_keys(keys), known, changed)
        except (VgidError, OSError) as error:
            known = None
            failed(error)
        if not pause():
            return


def _round(
    client: Client,
    model: str,
    folder: Path,
    keys: KeyFile,
    known: tuple[str, KeyFile] | None,
    changed: Callable[[Path], None],
) -> tuple[str, KeyFile]:
    """Exports the current release unless it is the known one. Returns its adapter's sha256, and the keys."""
    try:
        release = client.release(model)
    except NotFound as error:
        if error.problem.type == _NO_RELEASE:  # taken back; any other 404 may be a slip of the pen
            withdraw(model, folder)
        raise
    if (release.adapter_sha256, keys) != known:
        path, new = _export(client, model, release, folder, keys)
        if new:
            changed(path)
    return release.adapter_sha256, keys


def _sweep(folder: Path) -> None:
    """Deletes what a killed call has left unfinished, once nothing was written to it for a day."""
    for work in folder.glob(f"{_UNFINISHED}*"):
        with suppress(FileNotFoundError):  # another call has just ended
            written = max(path.stat().st_mtime for path in (work, *work.rglob("*")))
            if time.time() - written > _ABANDONED_SECONDS:
                shutil.rmtree(work, ignore_errors=True)


def _recorded(record: Path) -> str | None:
    """The folder that this put there before, if it is one."""
    try:
        name = json.loads(record.read_text(encoding="utf-8"))["name"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return name if isinstance(name, str) and name and Path(name).name == name and not name.startswith(".") else None


def _write(record: Path, name: str) -> None:
    new = record.with_name(record.name + ".new")
    new.write_text(json.dumps({"name": name}) + "\n", encoding="utf-8")
    os.replace(new, record)
