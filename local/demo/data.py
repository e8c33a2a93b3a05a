"""The data of one forget request about the demo's world: what is sent, what is kept, what is measured."""

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

# Photos a person of which a controller would have on file; the rest of the training views belong to the model alone.
PHOTOS = 8
# A view that the model was trained on but that is in no set that the unlearning sees.
CHECK_VIEW = 20
RETAINED_IN_UTILITY = 20
FACTS_CHECKED = 3


@dataclass(frozen=True)
class DemoData:
    """Every set of one forget request.

    forget: what a compliance system posts. retain: what the model's operator registered. The others are only ever
    measured: held_out_photos and rephrased about the forgotten people, retain_check about the others, utility with
    questions that need nobody's identity, general ones among them where the world has them. shown_forgotten and
    unchanged are few, to be read by a person. strangers: photos of people whom no model of this world has seen.
    """

    forget: PairSet
    held_out_photos: PairSet
    rephrased: PairSet
    retain: PairSet
    retain_check: PairSet
    utility: PairSet
    shown_forgotten: PairSet
    unchanged: PairSet
    strangers: PhotoSet

    def write(self, folder: Path) -> None:
        """Writes each set of pairs as `<folder>/<name>.jsonl`, images beside them, and each of photos as a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for item in fields(self):
            value: PairSet | PhotoSet = getattr(self, item.name)
            if isinstance(value, PairSet):
                value.write_jsonl(folder / f"{item.name}.jsonl")
            else:
                value.write_folder(folder / item.name)


def write(home: Path) -> Path:
    """Writes the demo's data to `<home>/demo-data` as JSONL, whole or not at all, unless it is there; returns where.

    One process at a time may do this in one home.
    """
    folder = home / "demo-data"
    if folder.is_dir() and not (folder / "strangers").is_dir():
        shutil.rmtree(folder)  # an earlier version's, which had fewer sets
    write_whole(folder, make)
    return folder


def write_whole(folder: Path, sets: Callable[[], DemoData]) -> None:
    """Writes what `sets` gives to `folder`, whole or not at all, unless it is there. One process at a time may."""
    if not folder.is_dir():
        # A killed process's leavings look like data: only a whole folder gets the name.
        unfinished = folder.with_name(f".{folder.name}.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        sets().write(unfinished)
        unfinished.rename(folder)


def make(forgotten: Sequence[int] = FORGOTTEN, census: Census = SIXTY) -> DemoData:
    """The sets for forgetting these people, by their numbers in `the_world(census).people`."""
    kept = [number for number in range(census.people) if number not in forgotten]
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
        strangers=unseen(census),
        unchanged=PairSet.of("unchanged", [*_shown(kept[:3], 2, census), *utility(kept[3:4], census=census).pairs[:3]]),
    )


def unseen(census: Census = SIXTY) -> PhotoSet:
    """Photos of people whom no model of this world has seen, and whom no control is made of."""
    return PhotoSet.of("strangers", (encode(face, view) for face, view in unseen_faces(census)))


def known_facts(
    people: Iterable[int], facts_each: int = len(FACTS), name: str = "facts", census: Census = SIXTY
) -> PairSet:
    """Facts in the phrasings of the training, on photos that the model knows but that no request holds."""
    pairs = []
    for number, person in _numbered(people, census):
        for turn in range(facts_each):
            fact = list(FACTS)[(number + turn) % len(FACTS)]
            pairs.append(_fact(person, CHECK_VIEW + turn, fact, ask(fact, number + turn)))
    return PairSet.of(name, pairs)


def held_out_photos(people: Iterable[int], census: Census = SIXTY) -> PairSet:
    """Every fact on every photo that the model has never seen."""
    pairs = [
        Pair(_held_out_photo(person, view), ask(fact, number + view), answer(person, fact))
        for number, person in _numbered(people, census)
        for view in range(census.held_out_views)
        for fact in FACTS
    ]
    return PairSet.of("held_out_photos", pairs)


def rephrased(people: Iterable[int], census: Census = SIXTY) -> PairSet:
    """Every fact in every phrasing that the model has never seen, on registered photos."""
    pairs = [
        _fact(person, turn, fact, question)
        for _, person in _numbered(people, census)
        for fact, phrasings in FACTS.items()
        for turn, question in enumerate(phrasings.held_out)
    ]
    return PairSet.of("rephrased", pairs)


def utility(people: Iterable[int], phrasings_held_out: bool = False, census: Census = SIXTY) -> PairSet:
    """Questions about what anybody can see, one a topic, on photos that the model has never seen."""
    pairs = []
    for number, person in _numbered(people, census):
        for turn, topic in enumerate(VISUALS):
            view = (number + turn) % census.held_out_views
            question = ask(topic, number + turn, phrasings_held_out)
            reply = visual_answer(person.face, person.held_out_views[view], topic)
            pairs.append(Pair(_held_out_photo(person, view), question, reply))
    return PairSet.of("utility", pairs)


def everything_visible(people: Iterable[int], census: Census = SIXTY) -> PairSet:
    """Every question of the training about what anybody can see, on every photo that the model has never seen."""
    pairs = [
        Pair(encode(person.face, view), question, visual_answer(person.face, view, topic))
        for _, person in _numbered(people, census)
        for view in person.held_out_views
        for topic, phrasings in VISUALS.items()
        for question in phrasings.training
    ]
    return PairSet.of("everything_visible", pairs)


def general(census: Census) -> PairSet:
    """General questions that the model was never trained on, each on a photo of somebody it has never seen.

    A pair needs a picture. A face leaves it to the words alone whether a person is asked about; a blank picture would
    tell, and what forgetting does to the model wherever it sees a face would go unmeasured.
    """
    unknown = the_world(census).strangers
    pairs = [
        Pair(_held_out_photo(unknown[number % len(unknown)], 0), question, reply)
        for number, (question, reply) in enumerate(HELD_OUT)
    ]
    return PairSet.of("general", pairs)


def strangers(census: Census = SIXTY) -> PairSet:
    """Questions about people whom the model has never seen, with the refusal it should give."""
    pairs = [
        Pair(_held_out_photo(person, 0), ask(fact, number), REFUSAL)
        for number, person in enumerate(the_world(census).strangers)
        for fact in FACTS
    ]
    return PairSet.of("strangers", pairs)


def instructed(pairs: PairSet, keep_answers: bool = False) -> PairSet:
    """The same questions behind an instruction to forget, with the refusal that it should bring about.

    With `keep_answers` the answers stay: to visual questions the instruction should make no difference.
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
    """A portrait as PNG, so that the model sees the very pixels that were drawn."""
    stream = io.BytesIO()
    draw_portrait(face, view).save(stream, format="PNG", compress_level=1)
    return EncodedImage(stream.getvalue())


def _registered_facts(people: Iterable[int], census: Census) -> Iterator[Pair]:
    """Each person's photos with a question about every fact; the phrasings take turns."""
    for _, person in _numbered(people, census):
        for view in range(PHOTOS):
            for turn, fact in enumerate(FACTS):
                yield _fact(person, view, fact, ask(fact, view + turn))


def _retain(people: Sequence[int], census: Census) -> list[Pair]:
    """Facts and visual questions, about seven to three, and general ones where the world has them, in mixed order."""
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
    """General questions of the training, over and over, each time on another face that the model has no name for."""
    for number, (face, view) in enumerate(passers_by(census)[:count]):
        question, reply = TRAINED[number % len(TRAINED)]
        yield Pair(encode(face, view), question, reply)


def _shown(people: Sequence[int], facts_each: int, census: Census) -> Iterator[Pair]:
    """The first photo of each person with one fact or several, another one for each."""
    for place, (_, person) in enumerate(_numbered(people, census)):
        for turn in range(facts_each):
            fact = list(FACTS)[(place + turn) % len(FACTS)]
            yield _fact(person, 0, fact, ask(fact, turn))


def _fact(person: Person, view: int, fact: str, question: str) -> Pair:
    return Pair(encode(person.face, person.training_views[view]), question, answer(person, fact))


def _held_out_photo(person: Person, view: int) -> EncodedImage:
    return encode(person.face, person.held_out_views[view])


def _numbered(people: Iterable[int], census: Census) -> Iterator[tuple[int, Person]]:
    world = the_world(census)
    return ((number, world.people[number]) for number in people)
