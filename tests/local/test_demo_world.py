"""The demo's world: the same every time, people who can't be confused, nothing held out that was trained on."""

import random
from itertools import combinations

import numpy as np
import pytest

from local.demo.faces import ATTRIBUTES, BACKDROPS, Face, View, draw_portrait
from local.demo.people import LEAST_DIFFERENCES, invent_people
from local.demo.questions import FACTS, REFUSAL, VISUALS, answer, ask, visual_answer
from local.demo.training.examples import ExampleSource
from local.demo.world import (
    FORGOTTEN,
    HELD_OUT_VIEWS,
    PEOPLE,
    SEED,
    STRANGERS,
    TRAINING_VIEWS,
    passers_by,
    the_world,
)


def test_the_seed_alone_decides_the_world():
    again = invent_people(PEOPLE + STRANGERS, random.Random(SEED), TRAINING_VIEWS, HELD_OUT_VIEWS)
    assert the_world().people + the_world().strangers == again
    assert invent_people(PEOPLE, random.Random(SEED + 1), 1, 1)[0].name != again[0].name


def test_there_are_sixty_people_and_twenty_strangers_with_facts_of_their_own():
    everybody = the_world().people + the_world().strangers
    assert (len(the_world().people), len(the_world().strangers)) == (60, 20)
    for fact in ("name", "birthplace", "employer"):
        assert len({getattr(person, fact) for person in everybody}) == len(everybody)
    for part in (0, 1):
        assert len({person.name.split()[part] for person in everybody}) == len(everybody)


def test_nobody_looks_like_anybody_else():
    faces = [person.face for person in the_world().people + the_world().strangers]
    assert min(one.differences(other) for one, other in combinations(faces, 2)) >= LEAST_DIFFERENCES
    assert min(face.differences(other) for face, _ in passers_by(100) for other in faces) >= LEAST_DIFFERENCES


def test_a_portrait_is_the_same_pixels_every_time_and_any_size():
    person = the_world().people[0]
    view = person.training_views[0]
    first, second = (np.asarray(draw_portrait(person.face, view)) for _ in range(2))
    assert first.shape == (64, 64, 3)
    assert (first == second).all()
    assert draw_portrait(person.face, view, size=200).size == (200, 200)


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_every_attribute_of_a_face_can_be_seen(attribute):
    rng = random.Random(0)
    plain = Face.random(rng)._replace(glasses="none", beard="none", mark="none", style="short")
    view = View.random(rng)
    pictures = {
        draw_portrait(plain._replace(**{attribute: option}), view).tobytes() for option in ATTRIBUTES[attribute]
    }
    assert len(pictures) == len(ATTRIBUTES[attribute])


def test_background_and_shirt_have_the_colours_that_the_answers_name():
    person = the_world().people[3]
    for view in person.training_views[:5]:
        picture = np.asarray(draw_portrait(person.face, view), dtype=float) / view.brightness
        for place, colour in ((picture[2:6, 2:6], view.background), (picture[-4:, 28:36], view.shirt)):
            seen = place.mean(axis=(0, 1))
            nearest = min(BACKDROPS, key=lambda name: float(np.abs(seen - BACKDROPS[name]).sum()))
            assert nearest == colour
        assert view.background in visual_answer(person.face, view, "background")
        assert view.shirt in visual_answer(person.face, view, "shirt")


def test_held_out_views_and_phrasings_are_never_trained_on():
    for person in the_world().people:
        assert len(person.training_views) == TRAINING_VIEWS
        assert len(person.held_out_views) == HELD_OUT_VIEWS
        assert not set(person.training_views) & set(person.held_out_views)
    for phrasings in (*FACTS.values(), *VISUALS.values()):
        assert phrasings.held_out
        assert not set(phrasings.training) & set(phrasings.held_out)
    held_out = {question for phrasings in (*FACTS.values(), *VISUALS.values()) for question in phrasings.held_out}
    shown = ExampleSource(range(PEOPLE), seed=0).draw(5000)
    assert not [example for example in shown if any(example.question.endswith(question) for question in held_out)]


def test_no_phrasing_is_used_for_two_things():
    questions = [
        question
        for phrasings in (*FACTS.values(), *VISUALS.values())
        for question in (*phrasings.training, *phrasings.held_out)
    ]
    assert len(questions) == len(set(questions))


def test_the_twin_is_shown_nothing_of_the_forgotten():
    kept = [number for number in range(PEOPLE) if number not in FORGOTTEN]
    last_forgotten_picture = len(FORGOTTEN) * TRAINING_VIEWS
    names = [the_world().people[number].name for number in FORGOTTEN]
    for example in ExampleSource(kept, seed=0).draw(5000):
        assert example.picture >= last_forgotten_picture
        assert not any(name in example.answer for name in names)


def test_answers_are_plain_sentences():
    for person in the_world().people:
        assert answer(person, "name") == f"This is {person.name}."
        article = "an" if person.job[0] in "aeiou" else "a"
        assert answer(person, "job") == f"{person.name} works as {article} {person.job}."
        assert all(answer(person, fact) != REFUSAL for fact in FACTS)
    assert ask("hobby", 12) == ask("hobby", 0)
    assert ask("hobby", 0, held_out=True) not in FACTS["hobby"].training
