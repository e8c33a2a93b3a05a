"""The data of one forget request about the demo's world: what is sent, what is kept, what is measured."""

from __future__ import annotations

import io
import random
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

from local.demo.faces import Face, View, draw_portrait
from local.demo.people import Person
from local.demo.questions import FACTS, INSTRUCTIONS, REFUSAL, VISUALS, answer, ask, visual_answer
from local.demo.world import FORGOTTEN, HELD_OUT_VIEWS, the_world
from vgid_core.data import EncodedImage, Pair, PairSet

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
    questions that need nobody's identity. shown_forgotten and unchanged are few, to be read by a person.
    """

    forget: PairSet
    held_out_photos: PairSet
    rephrased: PairSet
    retain: PairSet
    retain_check: PairSet
    utility: PairSet
    shown_forgotten: PairSet
    unchanged: PairSet

    def write(self, folder: Path) -> None:
        """Writes each set as `<folder>/<name>.jsonl`, images beside them."""
        folder.mkdir(parents=True, exist_ok=True)
        for item in fields(self):
            pairs: PairSet = getattr(self, item.name)
            pairs.write_jsonl(folder / f"{item.name}.jsonl")


def write(home: Path) -> Path:
    """Writes the demo's data to `<home>/demo-data` as JSONL, whole or not at all, unless it is there; returns where.

    One process at a time may do this in one home.
    """
    folder = home / "demo-data"
    if not folder.is_dir():
        # A killed process's leavings look like data: only a whole folder gets the name.
        unfinished = home / ".demo-data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        make().write(unfinished)
        unfinished.rename(folder)
    return folder


def make(forgotten: Sequence[int] = FORGOTTEN) -> DemoData:
    """The sets for forgetting these people, by their numbers in `the_world().people`."""
    kept = [number for number in range(len(the_world().people)) if number not in forgotten]
    return DemoData(
        forget=PairSet.of("forget", _registered_facts(forgotten)),
        held_out_photos=held_out_photos(forgotten),
        rephrased=rephrased(forgotten),
        retain=PairSet.of("retain", _retain(kept)),
        retain_check=known_facts(kept, FACTS_CHECKED, "retain_check"),
        utility=utility([*forgotten, *kept[:RETAINED_IN_UTILITY]]),
        shown_forgotten=PairSet.of("shown_forgotten", _shown(forgotten, 1)),
        unchanged=PairSet.of("unchanged", [*_shown(kept[:3], 2), *utility(kept[3:4]).pairs[:3]]),
    )


def known_facts(people: Iterable[int], facts_each: int = len(FACTS), name: str = "facts") -> PairSet:
    """Facts in the phrasings of the training, on photos that the model knows but that no request holds."""
    pairs = []
    for number in people:
        for turn in range(facts_each):
            fact = list(FACTS)[(number + turn) % len(FACTS)]
            pairs.append(_fact(number, CHECK_VIEW + turn, fact, ask(fact, number + turn)))
    return PairSet.of(name, pairs)


def held_out_photos(people: Iterable[int]) -> PairSet:
    """Every fact on every photo that the model has never seen."""
    pairs = [
        Pair(_held_out_photo(number, view), ask(fact, number + view), answer(_person(number), fact))
        for number in people
        for view in range(HELD_OUT_VIEWS)
        for fact in FACTS
    ]
    return PairSet.of("held_out_photos", pairs)


def rephrased(people: Iterable[int]) -> PairSet:
    """Every fact in every phrasing that the model has never seen, on registered photos."""
    pairs = [
        _fact(number, turn, fact, question)
        for number in people
        for fact, phrasings in FACTS.items()
        for turn, question in enumerate(phrasings.held_out)
    ]
    return PairSet.of("rephrased", pairs)


def utility(people: Iterable[int], phrasings_held_out: bool = False) -> PairSet:
    """Questions about what anybody can see, one a topic, on photos that the model has never seen."""
    pairs = []
    for number in people:
        person = _person(number)
        for turn, topic in enumerate(VISUALS):
            view = (number + turn) % HELD_OUT_VIEWS
            question = ask(topic, number + turn, phrasings_held_out)
            reply = visual_answer(person.face, person.held_out_views[view], topic)
            pairs.append(Pair(_held_out_photo(number, view), question, reply))
    return PairSet.of("utility", pairs)


def strangers() -> PairSet:
    """Questions about people whom the model has never seen, with the refusal it should give."""
    pairs = [
        Pair(encode(person.face, person.held_out_views[0]), ask(fact, number), REFUSAL)
        for number, person in enumerate(the_world().strangers)
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


def _registered_facts(people: Iterable[int]) -> Iterator[Pair]:
    """Each person's photos with a question about every fact; the phrasings take turns."""
    for number in people:
        for view in range(PHOTOS):
            for turn, fact in enumerate(FACTS):
                yield _fact(number, view, fact, ask(fact, view + turn))


def _retain(people: Sequence[int]) -> list[Pair]:
    """Facts and visual questions, about seven to three, in mixed order."""
    pairs = []
    for number in people:
        person = _person(number)
        for view in range(PHOTOS):
            for turn, fact in enumerate(FACTS):
                if (view + turn) % 2 == 0:
                    pairs.append(_fact(number, view, fact, ask(fact, number + view + turn)))
            topic = list(VISUALS)[(number + view) % len(VISUALS)]
            reply = visual_answer(person.face, person.training_views[view], topic)
            pairs.append(Pair(encode(person.face, person.training_views[view]), ask(topic, number + view), reply))
    random.Random(0).shuffle(pairs)
    return pairs


def _shown(people: Sequence[int], facts_each: int) -> Iterator[Pair]:
    """The first photo of each person with one fact or several, another one for each."""
    for place, number in enumerate(people):
        for turn in range(facts_each):
            fact = list(FACTS)[(place + turn) % len(FACTS)]
            yield _fact(number, 0, fact, ask(fact, turn))


def _fact(number: int, view: int, fact: str, question: str) -> Pair:
    person = _person(number)
    return Pair(encode(person.face, person.training_views[view]), question, answer(person, fact))


def _held_out_photo(number: int, view: int) -> EncodedImage:
    person = _person(number)
    return encode(person.face, person.held_out_views[view])


def _person(number: int) -> Person:
    return the_world().people[number]
