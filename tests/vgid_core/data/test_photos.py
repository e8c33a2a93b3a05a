"""Sets of photos without questions: where they come from, what names them, and what is left out."""

from pathlib import Path

import pytest

from tests.vgid_core.support.tiny import pair_set, picture
from vgid_core import DataError, PairSet, UnlearnSpec
from vgid_core.data.photos import PhotoSet
from vgid_core.spec import RunSets

PHOTOS = [picture(number) for number in range(4)]


def test_a_folder_is_read_as_it_was_written_and_other_files_in_it_are_ignored(tmp_path: Path) -> None:
    written = PhotoSet.of("unseen_faces", PHOTOS)
    written.write_folder(tmp_path / "faces")
    (tmp_path / "faces" / "README.md").write_text("Who these are, nobody knows.")
    found = PhotoSet.read(tmp_path / "faces", "unseen_faces")
    assert found == written
    assert found.digest == written.digest


def test_a_set_of_pairs_gives_its_photos_once(tmp_path: Path) -> None:
    pairs = PairSet.of("others", [*pair_set("others", 3).pairs, *pair_set("others", 2).pairs])
    pairs.write_jsonl(tmp_path / "others.jsonl")
    assert PhotoSet.read(tmp_path / "others.jsonl", "unseen_faces").photos == tuple(
        dict.fromkeys(pair.image for pair in pairs)
    )


def test_what_is_no_photo_is_named_by_its_place(tmp_path: Path) -> None:
    PhotoSet.of("unseen_faces", PHOTOS[:1]).write_folder(tmp_path)
    (tmp_path / "zzz.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"unseen_faces\[1\]: not a readable image"):
        PhotoSet.read(tmp_path, "unseen_faces")
    with pytest.raises(DataError, match="holds no photos"):
        PhotoSet.of("unseen_faces", [])


def test_photos_that_are_to_be_forgotten_are_no_unseen_faces(tmp_path: Path) -> None:
    forget, retain = pair_set("forget", 2), pair_set("retain", 2, first_picture=50)
    photos = {"unseen_faces": PhotoSet.of("unseen_faces", PHOTOS), "unlabelled": PhotoSet.of("unlabelled", PHOTOS)}
    sets = RunSets.of(UnlearnSpec("model", "tiny", forget, retain, tmp_path, **photos))
    assert sets.photos_of("unseen_faces") == sets.photos_of("unlabelled") == PHOTOS[2:]
    assert {"unseen_faces", "unlabelled"} <= sets.digests.keys()
    assert sets.manifest_entries()["unseen_faces"]["photos"] == len(PHOTOS), "told as it was given"
    with pytest.raises(DataError, match="holds no photos"):
        RunSets.of(UnlearnSpec("m", "t", forget, retain, tmp_path, unseen_faces=PhotoSet.of("x", PHOTOS[:2])))
