"""The demo's sets: right in size, disjoint where they must be, and the same after writing and reading them."""

import io
import shutil
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from local.child_process import start_child
from local.demo.data import DemoData, make, write
from local.demo.questions import FACTS, VISUALS, answer
from local.demo.world import passers_by, the_world, unseen_faces
from tests.waiting import eventually
from vgid_core.data.check import check_data
from vgid_core.data.pairs import EncodedImage, Pair, PairSet
from vgid_core.data.photos import PhotoSet
from vgid_core.data.readers import ReadResult

SETS = [item.name for item in fields(DemoData) if item.name != "unseen_faces"]


@pytest.fixture(scope="module")
def data() -> DemoData:
    return make()


def images_of(pairs: PairSet) -> set[str]:
    return {pair.image.digest for pair in pairs}


def names_of(numbers) -> list[str]:
    return [the_world().people[number].name for number in numbers]


def test_sizes(data):
    sizes = {name: len(getattr(data, name)) for name in SETS}
    assert sizes["forget"] == 240
    assert len(images_of(data.forget)) == 48
    assert 1300 <= sizes["retain"] <= 1600
    assert 130 <= sizes["utility"] <= 150
    assert 140 <= sizes["retain_check"] <= 170
    assert (sizes["held_out_photos"], sizes["rephrased"]) == (90, 60)
    assert (sizes["shown_forgotten"], sizes["unchanged"]) == (6, 9)


def test_the_retain_set_is_seven_facts_to_three_visual_questions(data):
    visual = {question for phrasings in VISUALS.values() for question in phrasings.training}
    share = sum(pair.question in visual for pair in data.retain) / len(data.retain)
    assert 0.25 <= share <= 0.35


def test_measured_sets_are_disjoint_from_forget_and_retain(data):
    seen = images_of(data.forget) | images_of(data.retain)
    assert not seen & (images_of(data.held_out_photos) | images_of(data.utility) | images_of(data.retain_check))
    asked = {pair.question for pair in data.forget}
    assert not asked & {pair.question for pair in data.rephrased}
    assert not images_of(data.forget) & images_of(data.retain)


@pytest.mark.parametrize("forgotten", [(0, 1, 2, 3, 4, 5), (5, 17, 29, 31, 44, 59)])
def test_any_six_people_can_be_forgotten(forgotten):
    data = make(forgotten)
    mine = names_of(forgotten)
    for pairs in (data.forget, data.held_out_photos, data.rephrased, data.shown_forgotten):
        assert all(any(name in pair.answer for name in mine) for pair in pairs)
    for pairs in (data.retain, data.retain_check, data.unchanged):
        assert not any(name in pair.answer for name in mine for pair in pairs)
    expected = {answer(the_world().people[number], fact) for number in forgotten for fact in FACTS}
    assert {pair.answer for pair in data.forget} == expected
    assert len({pair.answer.split(" ")[0] for pair in data.shown_forgotten}) > 1


def test_every_set_is_read_back_from_disk_as_it_was(data, tmp_path):
    check_folder(write(tmp_path), data)
    assert data.forget.pairs[0].image.decode().size == (64, 64)


def test_data_of_an_earlier_version_is_written_again(data, tmp_path):
    folder = write(tmp_path)
    shutil.rmtree(folder / "unseen_faces")
    check_folder(write(tmp_path), data)
    (folder / "neighbours.jsonl").unlink()
    check_folder(write(tmp_path), data)


def test_unseen_faces_are_nobody_whom_a_model_has_seen_or_a_control_is_made_of(data):
    faces = {face for face, _ in unseen_faces()}
    assert len(data.unseen_faces) == len(faces) == 200
    world = the_world()
    assert not faces & {person.face for person in (*world.people, *world.unseen_people)}
    assert not faces & {face for face, _ in passers_by()}


def test_data_is_whole_after_a_writing_process_was_killed(data, tmp_path):
    with start_child([sys.executable, "-c", WRITE_AND_STOP, tmp_path], log=tmp_path / "log") as killed:
        eventually(lambda: list(tmp_path.rglob("retain.jsonl")), every=0.005)
        killed.kill()
    assert (tmp_path / ".demo-data.new").is_dir()

    check_folder(write(tmp_path), data)

    assert not (tmp_path / ".demo-data.new").exists()


# Stops when some sets are written and others aren't.
WRITE_AND_STOP = """
import signal, sys
from pathlib import Path
from local.demo.data import write
def stop(event, details):
    if event == "open" and str(details[0]).endswith("utility.jsonl"):
        signal.pause()
sys.addaudithook(stop)
write(Path(sys.argv[1]))
"""


def check_folder(folder: Path, data: DemoData) -> None:
    for name in SETS:
        pairs = PairSet.from_jsonl(folder / f"{name}.jsonl")
        assert pairs.name == name
        assert pairs.digest == getattr(data, name).digest
    assert PhotoSet.read(folder / "unseen_faces", "unseen_faces") == data.unseen_faces


def test_the_check_finds_nothing_in_these_sets(data):
    sets = {name: ReadResult(name, getattr(data, name).pairs) for name in SETS}
    probes = [sets["held_out_photos"], sets["rephrased"], sets["retain_check"]]
    assert check_data(sets["forget"], sets["retain"], sets["utility"], probes).findings == ()


@pytest.mark.parametrize("scale", [0.5, 1, 2])
@pytest.mark.parametrize("quality", [50, 90])
def test_the_check_finds_a_copy_of_every_forgotten_photo(data, scale, quality):
    def copied(pair):
        picture = pair.image.decode()
        stream = io.BytesIO()
        picture.resize((int(picture.width * scale), int(picture.height * scale))).save(stream, "JPEG", quality=quality)
        return Pair(EncodedImage(stream.getvalue()), "Is this a copy?", "yes")

    photos = list({pair.image.digest: pair for pair in data.forget}.values())
    copies = [copied(pair) for pair in photos]
    report = check_data(ReadResult("forget", data.forget.pairs), ReadResult("retain", (*data.retain.pairs, *copies)))
    first = len(data.retain)
    found = {finding.kind: finding.places for finding in report.findings}
    assert found == {"similar-image": tuple(f"retain[{first + n}]" for n in range(len(photos)))}
