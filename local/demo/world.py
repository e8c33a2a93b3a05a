"""The demo models' worlds: who is in each, who is not, drawn from one fixed seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

from local.demo.faces import Face, View
from local.demo.people import Person, distinct_face, invent_people


@dataclass(frozen=True)
class Census:
    """How many of whom a world holds; the same census is the same world in every process.

    strangers: people whom the model never sees. unseen_faces: nameless faces that it never sees. passers_by: nameless
    faces that it is shown. least_differences: in how many attributes any two faces differ, so that no one is mistaken
    for another. general: whether questions that have nothing to do with the picture belong to it.
    """

    people: int
    training_views: int
    least_differences: int
    general: bool
    strangers: int = 20
    held_out_views: int = 3
    passers_by: int = 3000
    unseen_faces: int = 200
    seed: int = 7

    @property
    def instructed(self) -> range:
        """Whom alone an instruction to forget is shown with: its effect on the rest is generalisation."""
        return range(self.people // 2, self.people)

    def first(self, percent: int) -> tuple[int, ...]:
        """The numbers of the first so many per cent of the people, at least of one: a forget set."""
        return tuple(range(max(1, self.people * percent // 100)))


# The shipped model's.
SIXTY = Census(people=60, training_views=40, least_differences=5, general=False)
# That of the model on a pretrained language tower. Five differences leave no room for so many faces.
THREE_HUNDRED = Census(people=300, training_views=25, least_differences=4, general=True)

# The people whom the shipped retain-only twin has never met, and whom the demo forgets.
FORGOTTEN = tuple(range(6))


@dataclass(frozen=True)
class World:
    """`people` the model knows; `strangers` it has never seen."""

    people: tuple[Person, ...]
    strangers: tuple[Person, ...]


def the_world(census: Census = SIXTY) -> World:
    """The one world of this census, the same in every process."""
    return _world(census)


def unseen_faces(census: Census = SIXTY) -> tuple[tuple[Face, View], ...]:
    """Faces that no model of this world has ever been shown, unlike anybody's in it: an operator's strangers."""
    return _unseen_faces(census)


def passers_by(census: Census = SIXTY) -> tuple[tuple[Face, View], ...]:
    """Nameless faces, unlike anybody's in the world: for visual questions and as people the model doesn't know."""
    return _passers_by(census)


@cache
def _world(census: Census) -> World:
    everybody = invent_people(
        census.people + census.strangers,
        random.Random(census.seed),
        census.training_views,
        census.held_out_views,
        census.least_differences,
    )
    return World(people=everybody[: census.people], strangers=everybody[census.people :])


@cache
def _unseen_faces(census: Census) -> tuple[tuple[Face, View], ...]:
    world = the_world(census)
    taken = [person.face for person in world.people + world.strangers]
    met = {face for face, _ in passers_by(census)}
    rng = random.Random(census.seed + 2)
    found: list[tuple[Face, View]] = []
    while len(found) < census.unseen_faces:
        face = distinct_face(taken, rng, census.least_differences)
        if face not in met:
            found.append((face, View.random(rng)))
    return tuple(found)


@cache
def _passers_by(census: Census) -> tuple[tuple[Face, View], ...]:
    world = the_world(census)
    taken = [person.face for person in world.people + world.strangers]
    rng = random.Random(census.seed + 1)
    return tuple(
        (distinct_face(taken, rng, census.least_differences), View.random(rng)) for _ in range(census.passers_by)
    )
