"""The folder that a run writes: whole or not at all, and never over what isn't an adapter."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vgid_core.cli.run_file import RunFileError

# What a run writes (vgid_core.artifact); nothing else is ever replaced.
_WRITTEN = {"adapter_config.json", "adapter_model.safetensors", "manifest.json", "README.md"}
# Inside the folder, which may be a mounted one: beside it there could be another disk, or no right to write.
_UNFINISHED = ".unfinished"


def require_free(out: Path, overwrite: bool) -> None:
    """Raises RunFileError if `out` holds something that a run may not replace."""
    require_folder("out", out)
    names = {file.name for file in out.iterdir()} - {_UNFINISHED} if out.is_dir() else set()
    if names and not overwrite:
        raise RunFileError(f"out: {out} isn't empty; --overwrite replaces an adapter that is there")
    if names - _WRITTEN:
        raise RunFileError(f"out: {out} holds more than an adapter, so it isn't overwritten")


def require_no_adapter(out: Path) -> None:
    """Raises RunFileError if an adapter lies in `out`, where other files would be taken for its own."""
    if any((out / name).exists() for name in _WRITTEN - {"README.md"}):
        raise RunFileError(f"out: {out} is an adapter's folder; a comparison needs one of its own")


def require_folder(option: str, path: Path) -> None:
    """Raises RunFileError, naming `option`, if `path` is no folder and can't become one: what lies there is a file."""
    try:
        lying = next((place for place in (path, *path.parents) if place.exists()), path.parent)
        if not lying.is_dir():
            raise RunFileError(f"{option}: {lying} is no folder")
    except OSError as error:
        raise RunFileError(f"{option}: {path} can't be written ({error.strerror})") from None


@contextmanager
def written_whole(out: Path) -> Iterator[Path]:
    """A folder to write into, whose files take their place in `out` at the end, the manifest last.

    On any error `out` is as it was before. Call `require_free` first. Raises RunFileError when it can't be made.
    """
    new, unfinished = not out.exists(), out / _UNFINISHED
    try:
        out.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
    except OSError as error:
        raise RunFileError(f"out: {out} can't be written ({error.strerror})") from None
    try:
        yield unfinished
        (out / "manifest.json").unlink(missing_ok=True)
        for file in sorted(unfinished.iterdir(), key=lambda file: file.name == "manifest.json"):
            file.replace(out / file.name)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        if new and not any(out.iterdir()):
            out.rmdir()
