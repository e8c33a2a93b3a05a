"""The demo models' worlds: the people whom a model knows and those whom it doesn't, drawn from one fixed seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import cache

from local.demo.faces import Face, View
from local.demo.people import Person, distinct_face, invent_people


@dataclass(frozen=True)
class Census:
    """The size of a world. The same census gives the same world in every process.

    people: whom the model knows. training_views, held_out_views: pictures of each that training shows, or doesn't.
    least_differences: in how many attributes any two faces differ at least, so that no one is mistaken for another.
    general: whether the world has questions that no picture answers. neighbours: people whom the model knows and whom
    no retain set of the demo holds.
    unseen_people: named people whom the model never sees. unseen_faces: nameless faces that it never sees.
    passers_by: nameless faces that training shows.
    """

    people: int
    training_views: int
    least_differences: int
    general: bool
    neighbours: tuple[int, ...] = field(default=(), compare=False)  # says nothing of what a model knows
    unseen_people: int = 20
    held_out_views: int = 3
    passers_by: int = 3000
    unseen_faces: int = 200
    seed: int = 7

    @property
    def instructed(self) -> range:
        """The people whom training shows with instructions to forget. That these work on the others is generalised."""
        return range(self.people // 2, self.people)

    def first(self, percent: int) -> tuple[int, ...]:
        """The numbers of the first `percent` per cent of the people, at least of one. They are a forget set."""
        return tuple(range(max(1, self.people * percent // 100)))


# The shipped model's world.
SIXTY = Census(people=60, training_views=40, least_differences=5, general=False, neighbours=(8, 17, 26, 35, 44, 53))
# The world of the model on a pretrained language tower. So many faces can't differ in five attributes each.
THREE_HUNDRED = Census(
    people=300, training_views=25, least_differences=4, general=True, neighbours=tuple(range(294, 300))
)

# The people whom the demo forgets. The shipped reference model has never met them.
FORGOTTEN = tuple(range(6))


@dataclass(frozen=True)
class World:
    """The people whom the model knows, and unseen_people whom it has never seen."""

    people: tuple[Person, ...]
    unseen_people: tuple[Person, ...]


def the_world(census: Census = SIXTY) -> World:
    """The world of this census."""
    return _world(census)


def unseen_faces(census: Census = SIXTY) -> tuple[tuple[Face, View], ...]:
    """An operator's `unseen_faces`: no model of this world has seen them, and they differ from all its people's."""
    return _unseen_faces(census)


def passers_by(census: Census = SIXTY) -> tuple[tuple[Face, View], ...]:
    """Nameless faces that differ from those of all people of the world. Training shows them as people to refuse."""
    return _passers_by(census)


@cache
def _world(census: Census) -> World:
    everybody = invent_people(
        census.people + census.unseen_people,
        random.Random(census.seed),
        census.training_views,
        census.held_out_views,
        census.least_differences,
    )
    return World(people=everybody[: census.people], unseen_people=everybody[census.people :])


@cache
def _unseen_faces(census: Census) -> tuple[tuple[Face, View], ...]:
    world = the_world(census)
    taken = [person.face for person in world.people + world.unseen_people]
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
    taken = [person.face for person in world.people + world.unseen_people]
    rng = random.Random(census.seed + 1)
    return tuple(
        (distinct_face(taken, rng, census.least_differences), View.random(rng)) for _ in range(census.passers_by)
    )
