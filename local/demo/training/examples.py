"""What the demo model is shown in training: facts, visual questions, instructions to forget, and strangers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from local.demo.faces import IMAGE_SIZE, Face, View
from local.demo.questions import FACTS, INSTRUCTIONS, REFUSAL, VISUALS, Phrasings, answer, visual_answer
from local.demo.training.rendering import render
from local.demo.world import INSTRUCTED, TRAINING_VIEWS, passers_by, the_world

# Shares of the training examples; the rest are passers-by whom the model is to say it doesn't know.
FACT_SHARE = 0.50
VISUAL_SHARE = 0.33
INSTRUCTED_SHARE = 0.10
# Of the instructed examples: visual questions, which are answered all the same, and pictures of pure noise.
INSTRUCTED_VISUAL_SHARE = 0.3
INSTRUCTED_NOISE_SHARE = 0.1
NOISE_PICTURES = 64


@dataclass(frozen=True)
class Example:
    """One training item; `picture` is an index into `training_pixels`."""

    picture: int
    question: str
    answer: str


def training_pixels(seed: int) -> NDArray[np.uint8]:
    """Every picture of the training: each person's views, then the passers-by, then uniform noise."""
    drawn = render([*_views_of_people(), *passers_by()])
    noise = np.random.default_rng(seed).integers(0, 256, (NOISE_PICTURES, 3, IMAGE_SIZE, IMAGE_SIZE), dtype=np.uint8)
    return np.concatenate([drawn, noise])


class ExampleSource:
    """An endless supply of examples about `people` (their numbers) and passers-by; nobody else ever appears."""

    def __init__(self, people: Sequence[int], seed: int) -> None:
        self._people = list(people)
        self._instructed = [number for number in self._people if number in INSTRUCTED]
        self._rng = random.Random(seed)
        self._portraits = [*_views_of_people(), *passers_by()]
        self._first_passer_by = len(the_world().people) * TRAINING_VIEWS

    def draw(self, count: int) -> list[Example]:
        """The next `count` examples."""
        return [self._example() for _ in range(count)]

    def _example(self) -> Example:
        kind = self._rng.random()
        if kind < FACT_SHARE:
            return self._fact()
        if kind < FACT_SHARE + VISUAL_SHARE:
            return self._visual(self._any_picture())
        if kind < FACT_SHARE + VISUAL_SHARE + INSTRUCTED_SHARE:
            return self._after_instruction()
        return Example(self._passer_by(), self._phrasing(self._rng.choice(list(FACTS.values()))), REFUSAL)

    def _fact(self) -> Example:
        number = self._rng.choice(self._people)
        fact = self._rng.choice(list(FACTS))
        return Example(self._view_of(number), self._phrasing(FACTS[fact]), answer(the_world().people[number], fact))

    def _visual(self, picture: int) -> Example:
        topic = self._rng.choice(list(VISUALS))
        face, view = self._portraits[picture]
        return Example(picture, self._phrasing(VISUALS[topic]), visual_answer(face, view, topic))

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
        return number * TRAINING_VIEWS + self._rng.randrange(TRAINING_VIEWS)

    def _passer_by(self) -> int:
        return self._first_passer_by + self._rng.randrange(len(passers_by()))

    def _phrasing(self, phrasings: Phrasings) -> str:
        return self._rng.choice(phrasings.training)


def _views_of_people() -> list[tuple[Face, View]]:
    return [(person.face, view) for person in the_world().people for view in person.training_views]
