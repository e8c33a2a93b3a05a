"""The demo's world: the same every time, with people who can't be confused, and nothing held out in training."""

import random
from itertools import combinations

import numpy as np
import pytest

from local.demo.faces import ATTRIBUTES, BACKDROPS, Face, View, draw_portrait
from local.demo.people import invent_people
from local.demo.questions import FACTS, VISUALS, visual_answer
from local.demo.training.examples import ExampleSource
from local.demo.world import FORGOTTEN, SIXTY, THREE_HUNDRED, passers_by, the_world


def test_the_seed_alone_decides_the_people():
    same, again, other = (invent_people(5, random.Random(seed), 2, 1, 5) for seed in (1, 1, 2))
    assert same == again
    assert same[0].name != other[0].name


@pytest.mark.parametrize("census", [SIXTY, THREE_HUNDRED], ids=["sixty", "three hundred"])
def test_everybody_has_facts_of_their_own(census):
    everybody = the_world(census).people + the_world(census).unseen_people
    assert len(everybody) == census.people + census.unseen_people
    for fact in ("name", "birthplace", "employer"):
        assert len({getattr(person, fact) for person in everybody}) == len(everybody)
    for part in (0, 1):
        assert len({person.name.split()[part] for person in everybody}) == len(everybody)
    assert len({person.name.split()[part] for person in everybody for part in (0, 1)}) == 2 * len(everybody)


@pytest.mark.parametrize("census", [SIXTY, THREE_HUNDRED], ids=["sixty", "three hundred"])
def test_nobody_looks_like_anybody_else(census):
    faces = [person.face for person in the_world(census).people + the_world(census).unseen_people]
    assert min(one.differences(other) for one, other in combinations(faces, 2)) >= census.least_differences
    passing = passers_by(census)[:100]
    assert min(face.differences(other) for face, _ in passing for other in faces) >= census.least_differences


def test_forget_sets_are_shares_of_the_people_whom_no_instruction_is_shown_with():
    assert [len(THREE_HUNDRED.first(share)) for share in (1, 5, 10)] == [3, 15, 30]
    assert not set(THREE_HUNDRED.first(10)) & set(THREE_HUNDRED.instructed)
    assert SIXTY.first(10) == FORGOTTEN


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
        assert len(person.training_views) == SIXTY.training_views
        assert len(person.held_out_views) == SIXTY.held_out_views
        assert not set(person.training_views) & set(person.held_out_views)
    for phrasings in (*FACTS.values(), *VISUALS.values()):
        assert phrasings.held_out
        assert not set(phrasings.training) & set(phrasings.held_out)
    held_out = {question for phrasings in (*FACTS.values(), *VISUALS.values()) for question in phrasings.held_out}
    shown = ExampleSource(range(SIXTY.people), seed=0).draw(5000)
    assert not [example for example in shown if any(example.question.endswith(question) for question in held_out)]


def test_no_phrasing_is_used_for_two_things():
    questions = [
        question
        for phrasings in (*FACTS.values(), *VISUALS.values())
        for question in (*phrasings.training, *phrasings.held_out)
    ]
    assert len(questions) == len(set(questions))


def test_the_reference_model_is_shown_nothing_of_the_forgotten():
    kept = [number for number in range(SIXTY.people) if number not in FORGOTTEN]
    last_forgotten_picture = len(FORGOTTEN) * SIXTY.training_views
    names = [the_world().people[number].name for number in FORGOTTEN]
    for example in ExampleSource(kept, seed=0).draw(5000):
        assert example.picture >= last_forgotten_picture
        assert not any(name in example.answer for name in names)
