"""The fictitious people. Their names and facts come from word lists, so no real person is meant."""

from __future__ import annotations

import random
from dataclasses import dataclass

from local.demo import words
from local.demo.faces import Face, View


@dataclass(frozen=True)
class Person:
    """A made-up person: a face, five facts, the views that training shows, and the views that it doesn't."""

    name: str
    birthplace: str
    job: str
    employer: str
    hobby: str
    face: Face
    training_views: tuple[View, ...]
    held_out_views: tuple[View, ...]


def invent_people(
    count: int, rng: random.Random, training_views: int, held_out_views: int, least_differences: int
) -> tuple[Person, ...]:
    """Invents `count` people (320 at most), with different faces, first names, surnames, birthplaces and employers.

    least_differences: in how many attributes two faces differ at least.
    """
    first_names = rng.sample(words.first_names(count), count)
    surnames = rng.sample(words.surnames(count), count)
    towns = rng.sample(words.towns(count), count)
    employers = rng.sample(words.employers(), count)
    faces: list[Face] = []
    while len(faces) < count:
        faces.append(distinct_face(faces, rng, least_differences))
    return tuple(
        Person(
            name=f"{first_names[i]} {surnames[i]}",
            birthplace=towns[i],
            job=rng.choice(words.jobs()),
            employer=employers[i],
            hobby=rng.choice(words.hobbies()),
            face=faces[i],
            training_views=tuple(View.random(rng) for _ in range(training_views)),
            held_out_views=tuple(View.random(rng) for _ in range(held_out_views)),
        )
        for i in range(count)
    )


def distinct_face(others: list[Face], rng: random.Random, least_differences: int) -> Face:
    """A random face that differs from each of `others` in at least so many attributes."""
    while True:
        face = Face.random(rng)
        if all(face.differences(other) >= least_differences for other in others):
            return face
