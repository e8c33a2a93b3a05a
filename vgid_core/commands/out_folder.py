"""The folder that a run writes: whole or not at all, and never over what isn't an adapter."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vgid_core.commands.run_file import RunFileError

# What a run writes (vgid_core.artifact); nothing else is ever deleted.
_WRITTEN = {"adapter_config.json", "adapter_model.safetensors", "manifest.json", "README.md"}


def require_free(out: Path, overwrite: bool) -> None:
    """Raises RunFileError if `out` holds something that a run may not replace."""
    if out.exists() and not out.is_dir():
        raise RunFileError(f"out: {out} is no folder")
    names = {file.name for file in out.iterdir()} if out.is_dir() else set()
    if names and not overwrite:
        raise RunFileError(f"out: {out} isn't empty; --overwrite replaces an adapter that is there")
    if names - _WRITTEN:
        raise RunFileError(f"out: {out} holds more than an adapter, so it isn't overwritten")


@contextmanager
def written_whole(out: Path) -> Iterator[Path]:
    """A folder beside `out` to write into, which takes its place at the end. On an error it is gone, `out` as before.

    Call `require_free` first: what `out` holds is replaced.
    """
    unfinished = out.with_name(f".{out.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield unfinished
        if out.exists():
            shutil.rmtree(out)
        unfinished.rename(out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
