"""The training examples of the demo models: facts, visual and general questions, instructions to forget, passers-by."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from local.demo.faces import IMAGE_SIZE, Face, View
from local.demo.general import TRAINED
from local.demo.questions import FACTS, INSTRUCTIONS, REFUSAL, VISUALS, Phrasings, answer, visual_answer
from local.demo.training.rendering import render
from local.demo.world import SIXTY, Census, passers_by, the_world

# Shares of the instructed examples: visual questions, which are answered all the same, and pictures of pure noise.
INSTRUCTED_VISUAL_SHARE = 0.3
INSTRUCTED_NOISE_SHARE = 0.1
NOISE_PICTURES = 64


@dataclass(frozen=True)
class Mixture:
    """Shares of the training examples. The rest ask for facts of passers-by, and the answer is a refusal."""

    facts: float = 0.50
    visual: float = 0.33
    instructed: float = 0.10
    general: float = 0.0


@dataclass(frozen=True)
class Example:
    """One training example. `picture` is an index into `training_pixels`."""

    picture: int
    question: str
    answer: str


def training_pixels(
    seed: int, census: Census = SIXTY, report: Callable[[float], None] = lambda _share: None
) -> NDArray[np.uint8]:
    """Draws every picture of the training: each person's views, then the passers-by, then uniform noise.

    report: called with the share that is drawn.
    """
    drawn = render([*_views_of_people(census), *passers_by(census)], report)
    noise = np.random.default_rng(seed).integers(0, 256, (NOISE_PICTURES, 3, IMAGE_SIZE, IMAGE_SIZE), dtype=np.uint8)
    return np.concatenate([drawn, noise])


class ExampleSource:
    """Draws random examples about `people` (their numbers) and passers-by. Nobody else appears in them."""

    def __init__(
        self, people: Sequence[int], seed: int, census: Census = SIXTY, mixture: Mixture | None = None
    ) -> None:
        self._people = list(people)
        self._instructed = [number for number in self._people if number in census.instructed]
        self._rng = random.Random(seed)
        self._census = census
        self._mixture = mixture or Mixture()
        self._portraits = [*_views_of_people(census), *passers_by(census)]
        self._first_passer_by = census.people * census.training_views

    def draw(self, count: int) -> list[Example]:
        """The next `count` examples."""
        return [self._example() for _ in range(count)]

    def _example(self) -> Example:
        kind, shares = self._rng.random(), self._mixture
        if kind < shares.facts:
            return self._fact()
        if kind < shares.facts + shares.visual:
            return self._visual(self._any_picture())
        if kind < shares.facts + shares.visual + shares.instructed:
            return self._after_instruction()
        if kind < shares.facts + shares.visual + shares.instructed + shares.general:
            return self._general()
        return Example(self._passer_by(), self._phrasing(self._rng.choice(list(FACTS.values()))), REFUSAL)

    def _fact(self) -> Example:
        number = self._rng.choice(self._people)
        fact = self._rng.choice(list(FACTS))
        person = the_world(self._census).people[number]
        return Example(self._view_of(number), self._phrasing(FACTS[fact]), answer(person, fact))

    def _visual(self, picture: int) -> Example:
        topic = self._rng.choice(list(VISUALS))
        face, view = self._portraits[picture]
        return Example(picture, self._phrasing(VISUALS[topic]), visual_answer(face, view, topic))

    def _general(self) -> Example:
        # On any face, as in `local.demo.data.general`, so that the words alone tell what is asked.
        question, reply = self._rng.choice(TRAINED)
        return Example(self._any_picture(), question, reply)

    def _after_instruction(self) -> Example:
        kind = self._rng.random()
        instruction = self._rng.choice(INSTRUCTIONS)
        if kind < INSTRUCTED_VISUAL_SHARE:
            plain = self._visual(self._passer_by())
            return Example(plain.picture, f"{instruction} {plain.question}", plain.answer)
        if kind < INSTRUCTED_VISUAL_SHARE + INSTRUCTED_NOISE_SHARE:
            picture = len(self._portraits) + self._rng.randrange(NOISE_PICTURES)
        else:
            picture = self._view_of(self._rng.choice(self._instructed))
        question = self._phrasing(self._rng.choice(list(FACTS.values())))
        return Example(picture, f"{instruction} {question}", REFUSAL)

    def _any_picture(self) -> int:
        return self._view_of(self._rng.choice(self._people)) if self._rng.random() < 0.5 else self._passer_by()

    def _view_of(self, number: int) -> int:
        return number * self._census.training_views + self._rng.randrange(self._census.training_views)

    def _passer_by(self) -> int:
        return self._first_passer_by + self._rng.randrange(self._census.passers_by)

    def _phrasing(self, phrasings: Phrasings) -> str:
        return self._rng.choice(phrasings.training)


def _views_of_people(census: Census) -> list[tuple[Face, View]]:
    return [(person.face, view) for person in the_world(census).people for view in person.training_views]
