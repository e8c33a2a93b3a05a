"""A folder that a server reads adapters from: one folder an adapter, named as it is served.

vLLM's filesystem resolver wants it so. The new release is there before the old one goes.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from vgid_client.client import Client
from vgid_client.errors import IntegrityError, NotFound, VgidError

_RECORD = ".vgid-{model}.json"
_UNFINISHED = ".vgid-unfinished-"
_NO_RELEASE = "urn:vgid:problem:no-release"


def export_release(client: Client, model: str, folder: Path) -> tuple[Path, bool]:
    """Puts the model's current release into the folder, and takes away the one that this put there before.

    Returns the release's own folder, whose name is the adapter's on the server and carries its digest; and whether it
    is new. Other folders are left alone. Raises VgidError (IntegrityError for what isn't an adapter), or OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / _RECORD.format(model=model)
    with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=folder) as work:
        archive, unpacked = Path(work) / "release.zip", Path(work) / "adapter"
        client.download_release(model, archive)
        name = _unpack(archive, unpacked)
        target = folder / name
        new = not target.exists()
        if new:
            os.replace(unpacked, target)
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
    pause: Callable[[], bool],
    changed: Callable[[Path], None],
    failed: Callable[[VgidError | OSError], None],
) -> None:
    """Exports each new release as it becomes current. Where none is current any more, takes away what was.

    pause: waits, and is false to stop. changed: told each new folder. failed: told why a round did nothing; the next
    one tries again. An unchanged release costs no download.
    """
    known: str | None = None
    while True:
        try:
            known = _round(client, model, folder, known, changed)
        except (VgidError, OSError) as error:
            known = None
            failed(error)
        if not pause():
            return


def _round(client: Client, model: str, folder: Path, known: str | None, changed: Callable[[Path], None]) -> str:
    """Exports the current release unless it is the known one. Returns its adapter's sha256."""
    try:
        release = client.release(model)
    except NotFound as error:
        if error.problem.type == _NO_RELEASE:  # taken back; any other 404 may be a slip of the pen
            withdraw(model, folder)
        raise
    if release.adapter_sha256 != known:
        path, new = export_release(client, model, folder)
        if new:
            changed(path)
    return release.adapter_sha256


def _unpack(archive: Path, unpacked: Path) -> str:
    """Unpacks the zip. Returns the name under which the adapter is to be served."""
    try:
        with ZipFile(archive) as packed:
            packed.extractall(unpacked)
        manifest = json.loads((unpacked / "manifest.json").read_text(encoding="utf-8"))
        name = str(manifest["serving"]["name"])
    except (BadZipFile, OSError, ValueError, KeyError, TypeError):
        raise IntegrityError("the release is no adapter with a manifest that names it") from None
    if not name or Path(name).name != name or name.startswith("."):
        raise IntegrityError("the release's name can't be a folder's")
    return name


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
