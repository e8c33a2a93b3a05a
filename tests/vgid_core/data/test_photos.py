"""Sets of photos without questions: where they come from, what names them, and what is left out."""

from pathlib import Path

import pytest

from tests.vgid_core.support.tiny import pair_set, picture
from vgid_core import DataError, PairSet, UnlearnSpec
from vgid_core.data.photos import PhotoSet
from vgid_core.spec import RunSets

PHOTOS = [picture(number) for number in range(4)]


def test_a_folder_is_read_as_it_was_written_and_other_files_in_it_are_ignored(tmp_path: Path) -> None:
    written = PhotoSet.of("strangers", PHOTOS)
    written.write_folder(tmp_path / "faces")
    (tmp_path / "faces" / "README.md").write_text("Who these are, nobody knows.")
    found = PhotoSet.read(tmp_path / "faces", "strangers")
    assert found == written
    assert found.digest == written.digest


def test_a_set_of_pairs_gives_its_photos_once(tmp_path: Path) -> None:
    pairs = PairSet.of("others", [*pair_set("others", 3).pairs, *pair_set("others", 2).pairs])
    pairs.write_jsonl(tmp_path / "others.jsonl")
    assert PhotoSet.read(tmp_path / "others.jsonl", "strangers").photos == tuple(
        dict.fromkeys(pair.image for pair in pairs)
    )


def test_what_is_no_photo_is_named_by_its_place(tmp_path: Path) -> None:
    PhotoSet.of("strangers", PHOTOS[:1]).write_folder(tmp_path)
    (tmp_path / "zzz.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"strangers\[1\]: not a readable image"):
        PhotoSet.read(tmp_path, "strangers")
    with pytest.raises(DataError, match="holds no photos"):
        PhotoSet.of("strangers", [])


def test_photos_that_are_to_be_forgotten_are_no_strangers(tmp_path: Path) -> None:
    forget, retain = pair_set("forget", 2), pair_set("retain", 2, first_picture=50)
    photos = {"strangers": PhotoSet.of("strangers", PHOTOS), "unlabelled": PhotoSet.of("unlabelled", PHOTOS)}
    sets = RunSets.of(UnlearnSpec("model", "tiny", forget, retain, tmp_path, **photos))
    assert sets.photos_of("strangers") == sets.photos_of("unlabelled") == PHOTOS[2:]
    assert {"strangers", "unlabelled"} <= sets.digests.keys()
    assert sets.manifest_entries()["strangers"]["photos"] == len(PHOTOS), "told as it was given"
    with pytest.raises(DataError, match="holds no photos"):
        RunSets.of(UnlearnSpec("m", "t", forget, retain, tmp_path, strangers=PhotoSet.of("x", PHOTOS[:2])))
