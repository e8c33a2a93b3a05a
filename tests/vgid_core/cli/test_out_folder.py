"""The folder that a run writes: whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from vgid_core.cli.inputs.run_file import RunFileError
from vgid_core.cli.out_folder import require_free, write_atomically


def write(folder: Path, text: str) -> None:
    for name in ("adapter_config.json", "manifest.json"):
        (folder / name).write_text(text, encoding="utf-8")


def held(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir()}


def stopped(out: Path) -> None:
    with write_atomically(out) as folder:
        write(folder, "half")
        raise KeyboardInterrupt


def test_files_take_their_places_at_the_end(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    for text in ("first", "second"):
        with write_atomically(out) as folder:
            write(folder, text)
        assert held(out) == {"adapter_config.json": text, "manifest.json": text}


def test_an_error_leaves_everything_as_it_was(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        stopped(out)
    assert not out.exists()
    out.mkdir()
    write(out, "whole")
    with pytest.raises(KeyboardInterrupt):
        stopped(out)
    assert held(out) == {"adapter_config.json": "whole", "manifest.json": "whole"}


def test_what_a_killed_run_left_is_in_nobodys_way(tmp_path: Path) -> None:
    leftover = tmp_path / ".unfinished"
    leftover.mkdir()
    write(leftover, "half")
    require_free(tmp_path, overwrite=False)
    with write_atomically(tmp_path) as folder:
        assert list(folder.iterdir()) == []
        write(folder, "whole")
    assert held(tmp_path) == {"adapter_config.json": "whole", "manifest.json": "whole"}


def test_a_place_that_cant_be_a_folder_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(RunFileError, match="is no folder"):
        require_free(file, overwrite=True)
    with pytest.raises(RunFileError, match="can't be written"), write_atomically(file / "out"):
        pass
