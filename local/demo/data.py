"""The data of a forget request about the demo's people: the forget and retain sets, and those that are measured."""

from __future__ import annotations

import io
import random
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

from local.demo.faces import Face, View, draw_portrait
from local.demo.general import HELD_OUT, TRAINED
from local.demo.people import Person
from local.demo.questions import FACTS, INSTRUCTIONS, REFUSAL, VISUALS, answer, ask, visual_answer
from local.demo.world import FORGOTTEN, SIXTY, Census, passers_by, the_world, unseen_faces
from vgid_core.data.pairs import EncodedImage, Pair, PairSet
from vgid_core.data.photos import PhotoSet

# Photos per person that a controller would have on file. No set holds the other views that training showed.
PHOTOS = 8
# The first view that the model was trained on but that no forget or retain set holds.
CHECK_VIEW = 20
RETAINED_IN_UTILITY = 20
FACTS_CHECKED = 3


@dataclass(frozen=True)
class DemoData:
    """Every set of one forget request.

    forget: what a compliance system sends. retain: what the model's operator has registered.
    The following sets are only measured. held_out_photos and rephrased: about the forgotten people. retain_check: about
    the others. utility: visual questions, and general ones where the world has them. shown_forgotten, unchanged: a few
    pairs for a person to read.
    unseen_faces: photos of people whom no model of this world has seen. unseen: facts about others of these.
    neighbours: facts about people whom the model knows and neither forget nor retain holds.
    """

    forget: PairSet
    held_out_photos: PairSet
    rephrased: PairSet
    retain: PairSet
    retain_check: PairSet
    utility: PairSet
    shown_forgotten: PairSet
    unchanged: PairSet
    unseen_faces: PhotoSet
    unseen: PairSet
    neighbours: PairSet | None

    def write(self, folder: Path) -> None:
        """Writes each set of pairs as `<folder>/<name>.jsonl` with its images, and each set of photos as a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for item in fields(self):
            value: PairSet | PhotoSet | None = getattr(self, item.name)
            if isinstance(value, PairSet):
                value.write_jsonl(folder / f"{item.name}.jsonl")
            elif value is not None:
                value.write_folder(folder / item.name)


def write(home: Path) -> Path:
    """Writes the demo's data to `<home>/demo-data` unless it exists, and returns that folder.

    After a crash the folder is whole or absent. Only one process at a time may do this in one home.
    """
    folder = home / "demo-data"
    if folder.is_dir() and not all((folder / name).exists() for name in ("unseen_faces", "neighbours.jsonl")):
        shutil.rmtree(folder)  # an earlier version wrote fewer sets
    write_whole(folder, make)
    return folder


def write_whole(folder: Path, sets: Callable[[], DemoData]) -> None:
    """Writes the data that `sets` returns to `folder` unless it exists. After a crash the folder is whole or absent.

    Only one process at a time may do this.
    """
    if not folder.is_dir():
        # A killed process may leave part of the data, so the folder gets its name when it is whole.
        unfinished = folder.with_name(f".{folder.name}.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        sets().write(unfinished)
        unfinished.rename(folder)


def make(forgotten: Sequence[int] = FORGOTTEN, census: Census = SIXTY) -> DemoData:
    """Makes the sets for forgetting these people. `forgotten` are their numbers in `the_world(census).people`."""
    neighbours = [number for number in census.neighbours if number not in forgotten]
    kept = [number for number in range(census.people) if number not in (*forgotten, *neighbours)]
    measured = [*forgotten, *kept[:RETAINED_IN_UTILITY]]
    visual = utility(measured, census=census)
    return DemoData(
        forget=PairSet.of("forget", _registered_facts(forgotten, census)),
        held_out_photos=held_out_photos(forgotten, census),
        rephrased=rephrased(forgotten, census),
        retain=PairSet.of("retain", _retain(kept, census)),
        retain_check=known_facts(kept, FACTS_CHECKED, "retain_check", census),
        utility=PairSet.of("utility", [*visual, *general(census)]) if census.general else visual,
        shown_forgotten=PairSet.of("shown_forgotten", _shown(forgotten, 1, census)),
        unseen_faces=unseen_face_photos(census),
        unseen=unseen(census),
        neighbours=known_facts(neighbours, name="neighbours", census=census) if neighbours else None,
        unchanged=PairSet.of("unchanged", [*_shown(kept[:3], 2, census), *utility(kept[3:4], census=census).pairs[:3]]),
    )


def shown(people: Sequence[int], facts_each: int = 1, census: Census = SIXTY) -> PairSet:
    """A few facts of each for a person to read, on photos of the forget or retain set."""
    return PairSet.of("shown", _shown(people, facts_each, census))


def unseen_face_photos(census: Census = SIXTY) -> PhotoSet:
    """Photos of people whom no model of this world has seen, and who are in no other set."""
    return PhotoSet.of("unseen_faces", (encode(face, view) for face, view in unseen_faces(census)))


def known_facts(
    people: Iterable[int], facts_each: int = len(FACTS), name: str = "facts", census: Census = SIXTY
) -> PairSet:
    """Facts in phrasings of the training, on photos that training showed but that no forget or retain set holds."""
    pairs = []
    for number, person in _numbered(people, census):
        for turn in range(facts_each):
            fact = list(FACTS)[(number + turn) % len(FACTS)]
            pairs.append(_fact(person, CHECK_VIEW + turn, fact, ask(fact, number + turn)))
    return PairSet.of(name, pairs)


def held_out_photos(people: Iterable[int], census: Census = SIXTY) -> PairSet:
    """Every fact, on every photo that the model has never seen."""
    pairs = [
        _pair(person, _held_out_photo(person, view), fact, ask(fact, number + view))
        for number, person in _numbered(people, census)
        for view in range(census.held_out_views)
        for fact in FACTS
    ]
    return PairSet.of("held_out_photos", pairs)


def unseen(census: Census = SIXTY) -> PairSet:
    """Every fact of named people whom no model of this world has seen.

    They differ from those in `unseen_face_photos`.
    """
    pairs = [
        _pair(person, _held_out_photo(person, number % census.held_out_views), fact, ask(fact, number + turn))
        for number, person in enumerate(the_world(census).unseen_people)
        for turn, fact in enumerate(FACTS)
    ]
    return PairSet.of("unseen", pairs)


def rephrased(people: Iterable[int], census: Census = SIXTY) -> PairSet:
    """Every fact in every phrasing that the model has never seen, on photos of the forget or retain set."""
    pairs = [
        _fact(person, turn, fact, question)
        for _, person in _numbered(people, census)
        for fact, phrasings in FACTS.items()
        for turn, question in enumerate(phrasings.held_out)
    ]
    return PairSet.of("rephrased", pairs)


def utility(people: Iterable[int], phrasings_held_out: bool = False, census: Census = SIXTY) -> PairSet:
    """Visual questions, one per topic and person, on photos that the model has never seen."""
    pairs = []
    for number, person in _numbered(people, census):
        for turn, topic in enumerate(VISUALS):
            view = (number + turn) % census.held_out_views
            question = ask(topic, number + turn, phrasings_held_out)
            reply = visual_answer(person.face, person.held_out_views[view], topic)
            pairs.append(Pair(_held_out_photo(person, view), question, reply))
    return PairSet.of("utility", pairs)


def general(census: Census) -> PairSet:
    """General questions that the model was never trained on, each on a photo of an unseen person.

    A pair needs a picture. A blank one would tell the model that no person is asked about. On a face the words alone
    tell, so these pairs also measure what forgetting does wherever the model sees a face.
    """
    unknown = the_world(census).unseen_people
    pairs = [
        Pair(_held_out_photo(unknown[number % len(unknown)], 0), question, reply)
        for number, (question, reply) in enumerate(HELD_OUT)
    ]
    return PairSet.of("general", pairs)


def refusals(census: Census = SIXTY) -> PairSet:
    """Questions about people whom the model has never seen, with the refusal that it should give."""
    pairs = [
        Pair(_held_out_photo(person, 0), ask(fact, number), REFUSAL)
        for number, person in enumerate(the_world(census).unseen_people)
        for fact in FACTS
    ]
    return PairSet.of("refusals", pairs)


def instructed(pairs: PairSet, keep_answers: bool = False) -> PairSet:
    """The same questions behind an instruction to forget, with the refusal that it should cause.

    keep_answers: keeps the answers instead. The instruction should make no difference to visual questions.
    """
    return PairSet.of(
        "instructed",
        (
            Pair(pair.image, f"{INSTRUCTIONS[0]} {pair.question}", pair.answer if keep_answers else REFUSAL)
            for pair in pairs
        ),
    )


@cache
def encode(face: Face, view: View) -> EncodedImage:
    """Draws a portrait as PNG, which is lossless, so that the model sees the drawn pixels."""
    stream = io.BytesIO()
    draw_portrait(face, view).save(stream, format="PNG", compress_level=1)
    return EncodedImage(stream.getvalue())


def _registered_facts(people: Iterable[int], census: Census) -> Iterator[Pair]:
    """Every fact on each of a person's photos, with phrasings in turn."""
    for _, person in _numbered(people, census):
        for view in range(PHOTOS):
            for turn, fact in enumerate(FACTS):
                yield _fact(person, view, fact, ask(fact, view + turn))


def _retain(people: Sequence[int], census: Census) -> list[Pair]:
    """Facts and visual questions, about seven to three, and general ones if the world has them, shuffled."""
    pairs = []
    for number, person in _numbered(people, census):
        for view in range(PHOTOS):
            for turn, fact in enumerate(FACTS):
                if (view + turn) % 2 == 0:
                    pairs.append(_fact(person, view, fact, ask(fact, number + view + turn)))
            topic = list(VISUALS)[(number + view) % len(VISUALS)]
            reply = visual_answer(person.face, person.training_views[view], topic)
            pairs.append(Pair(encode(person.face, person.training_views[view]), ask(topic, number + view), reply))
    if census.general:
        pairs += _general_of_passers_by(len(pairs) // 10, census)
    random.Random(0).shuffle(pairs)
    return pairs


def _general_of_passers_by(count: int, census: Census) -> Iterator[Pair]:
    """General questions of the training in turn, each on another nameless face."""
    for number, (face, view) in enumerate(passers_by(census)[:count]):
        question, reply = TRAINED[number % len(TRAINED)]
        yield Pair(encode(face, view), question, reply)


def _shown(people: Sequence[int], facts_each: int, census: Census) -> Iterator[Pair]:
    """Facts on each person's first photo. Which facts are asked differs from person to person."""
    for place, (_, person) in enumerate(_numbered(people, census)):
        for turn in range(facts_each):
            fact = list(FACTS)[(place + turn) % len(FACTS)]
            yield _fact(person, 0, fact, ask(fact, turn))


def _fact(person: Person, view: int, fact: str, question: str) -> Pair:
    return _pair(person, encode(person.face, person.training_views[view]), fact, question)


def _pair(person: Person, photo: EncodedImage, fact: str, question: str) -> Pair:
    return Pair(photo, question, answer(person, fact), person.name, getattr(person, fact))


def _held_out_photo(person: Person, view: int) -> EncodedImage:
    return encode(person.face, person.held_out_views[view])


def _numbered(people: Iterable[int], census: Census) -> Iterator[tuple[int, Person]]:
    world = the_world(census)
    return ((number, world.people[number]) for number in people)
