"""The output folder of a run: written completely or not at all, and only over an adapter."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vgid_core.cli.inputs.run_file import RunFileError

# The files of an artifact (vgid_core.artifact). No other file is ever replaced.
_ARTIFACT_FILES = {
    "adapter_config.json",
    "adapter_model.safetensors",
    "evidence.json",
    "manifest.json",
    "README.md",
    "combined.json",
}
# Inside the folder, since its parent can be another file system or read-only.
_UNFINISHED = ".unfinished"


def require_free(out: Path, overwrite: bool) -> None:
    """Raises RunFileError if `out` holds files that a run may not replace."""
    require_folder("out", out)
    names = {file.name for file in out.iterdir()} - {_UNFINISHED} if out.is_dir() else set()
    if names and not overwrite:
        raise RunFileError(f"out: {out} isn't empty; --overwrite replaces an adapter that is there")
    if names - _ARTIFACT_FILES:
        raise RunFileError(f"out: {out} holds more than an adapter, so it isn't overwritten")


def require_no_adapter(out: Path) -> None:
    """Raises RunFileError if `out` is an adapter's folder, whose other files would be taken for the adapter's."""
    if any((out / name).exists() for name in _ARTIFACT_FILES - {"README.md"}):
        raise RunFileError(f"out: {out} is an adapter's folder; a comparison needs one of its own")


def require_folder(option: str, path: Path) -> None:
    """Raises RunFileError, naming `option`, if `path` isn't a folder and can't become one because of a file."""
    try:
        existing = next((place for place in (path, *path.parents) if place.exists()), path.parent)
        if not existing.is_dir():
            raise RunFileError(f"{option}: {existing} is no folder")
    except OSError as error:
        raise RunFileError(f"{option}: {path} can't be written ({error.strerror})") from None


def write_text(option: str, path: Path, text: str) -> None:
    """Writes a file, whose folder is made if need be. Raises RunFileError, naming `option`, if it can't be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunFileError(f"{option}: {path} can't be written ({error.strerror})") from None


@contextmanager
def write_atomically(out: Path) -> Iterator[Path]:
    """Yields a temporary folder, whose files are moved to `out` at the end, the manifest last.

    On an error `out` stays unchanged. Call `require_free` first. Raises RunFileError if the folder can't be created.
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
        for name in ("manifest.json", "evidence.json"):  # not every run writes evidence
            (out / name).unlink(missing_ok=True)
        for file in sorted(unfinished.iterdir(), key=lambda file: file.name == "manifest.json"):
            file.replace(out / file.name)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        if new and not any(out.iterdir()):
            out.rmdir()
