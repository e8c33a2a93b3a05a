"""The artifact's zip, and the error descriptions that the worker logs."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path

import pytest

from worker.attempt.artifact_zip import write_artifact_zip
from worker.describe import describe


def test_the_zip_depends_on_names_and_bytes_alone(tmp_path: Path):
    archives = []
    for number, names in enumerate((["b.bin", "a.json"], ["a.json", "b.bin"])):
        folder = tmp_path / f"folder-{number}"
        folder.mkdir()
        for name in names:
            (folder / name).write_bytes(name.encode() * 1000)
            os.utime(folder / name, (number, number))
        listing = write_artifact_zip(folder, tmp_path / f"{number}.zip")
        archives.append((tmp_path / f"{number}.zip").read_bytes())
        assert listing == [
            {"name": name, "sha256": hashlib.sha256(name.encode() * 1000).hexdigest(), "size": 1000 * len(name)}
            for name in ("a.json", "b.bin")
        ]
    assert archives[0] == archives[1]
    with zipfile.ZipFile(tmp_path / "0.zip") as archive:
        assert [entry.compress_type for entry in archive.infolist()] == [zipfile.ZIP_STORED] * 2
        assert archive.testzip() is None


def test_a_described_error_holds_types_and_places_but_no_message(tmp_path: Path):
    (tmp_path / "Ada Quill").mkdir()
    try:
        try:
            write_artifact_zip(tmp_path / "nowhere", tmp_path / "Ada Quill")
        except OSError as error:
            raise ValueError("Ada Quill was born in Fernmoor") from error
    except ValueError as error:
        text = describe(error)

    assert text.startswith("builtins.ValueError from builtins.")
    assert "Ada" not in text
    assert "Fernmoor" not in text


def test_a_described_error_holds_the_lines_of_our_own_code(tmp_path: Path):
    with pytest.raises(FileNotFoundError) as caught:
        write_artifact_zip(tmp_path / "nowhere", tmp_path / "target.zip")
    assert "worker/attempt/artifact_zip.py:" in describe(caught.value)
    assert "in write_artifact_zip" in describe(caught.value)
    assert str(tmp_path) not in describe(caught.value)
