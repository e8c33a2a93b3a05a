"""The simulated fleet's jobs, beside sums written here."""

from dataclasses import replace

import pytest

from bench.fleet_jobs import Strategy, job_of
from bench.fleet_numbers import NUMBERS, SOURCES
from bench.methods import DEFAULT, PUBLISHED, settings
from vgid_core.methods import VgidAlias


def test_a_job_of_vgid_as_published_takes_a_measured_pairs_time_for_each_pair() -> None:
    job = job_of(NUMBERS, Strategy("", PUBLISHED, 6, True), NUMBERS.people_a_run)
    training = settings(PUBLISHED).training
    assert job.steps == pytest.approx(training.steps * training.forget_batch_size * NUMBERS.eager_pair_seconds)
    assert job.evaluation == pytest.approx(job.steps * NUMBERS.evaluation_share)
    assert job.preparation == 0


def test_the_default_methods_teachers_are_asked_by_its_own_defaults_once_a_forget_pair() -> None:
    one, two = (job_of(NUMBERS, Strategy("", DEFAULT, 6, True), people) for people in (1, 2))
    method = settings(DEFAULT).method
    assert isinstance(method, VgidAlias)
    a_pass = NUMBERS.eager_pair_seconds / NUMBERS.passes_a_pair
    assert one.preparation == pytest.approx(method.draws * NUMBERS.forget_pairs_a_person * a_pass)
    assert two.preparation == pytest.approx(2 * one.preparation)
    assert two.steps == pytest.approx(one.steps)


def test_without_a_least_number_of_people_one_takes_a_sixth_of_six_peoples_steps_by_either_method() -> None:
    free = replace(NUMBERS, least_people_a_run=0)
    for method in (DEFAULT, PUBLISHED):
        bound, own = (job_of(numbers, Strategy("", method, 1, True), 1) for numbers in (NUMBERS, free))
        assert own.steps == pytest.approx(bound.steps / NUMBERS.people_a_run, rel=0.01)


def test_a_recipe_with_its_own_pair_time_ignores_this_projects() -> None:
    job = job_of(NUMBERS, Strategy("", PUBLISHED, 1, False, 1.0), 1)
    training = settings(PUBLISHED).training
    assert job.steps == training.steps * training.forget_batch_size


def test_every_number_says_where_it_is_from() -> None:
    assert set(SOURCES) == set(vars(NUMBERS))
