"""The demo's world: who is in it, who is not, drawn from one fixed seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

from local.demo.faces import Face, View
from local.demo.people import Person, distinct_face, invent_people

SEED = 7
PEOPLE = 60
STRANGERS = 20
TRAINING_VIEWS = 40
HELD_OUT_VIEWS = 3
PASSERS_BY = 3000

# Only these people are ever shown with an in-context instruction to forget: its effect on the rest is generalisation.
INSTRUCTED = range(PEOPLE // 2, PEOPLE)
# The people whom the retain-only twin has never met, and whom the demo forgets.
FORGOTTEN = tuple(range(6))


@dataclass(frozen=True)
class World:
    """`people` the model knows; `strangers` it has never seen."""

    people: tuple[Person, ...]
    strangers: tuple[Person, ...]


@cache
def the_world() -> World:
    """The one world of the demo, the same in every process."""
    everybody = invent_people(PEOPLE + STRANGERS, random.Random(SEED), TRAINING_VIEWS, HELD_OUT_VIEWS)
    return World(people=everybody[:PEOPLE], strangers=everybody[PEOPLE:])


@cache
def passers_by(count: int = PASSERS_BY) -> tuple[tuple[Face, View], ...]:
    """Nameless faces, unlike anybody's in the world: for visual questions and as people the model doesn't know."""
    world = the_world()
    taken = [person.face for person in world.people + world.strangers]
    rng = random.Random(SEED + 1)
    return tuple((distinct_face(taken, rng), View.random(rng)) for _ in range(count))
