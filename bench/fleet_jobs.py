"""What a job of the simulated fleet takes once it has started: by passes of each method with its own settings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from bench.fleet_numbers import Numbers
from bench.methods import PUBLISHED, settings
from vgid_core import UnlearnConfig
from vgid_core.passes import PASSES_WORTH_COMPILING, run_passes


@dataclass(frozen=True)
class Strategy:
    """How requests become jobs. `pair_seconds` None is this project's path, compiled where the library compiles."""

    name: str
    method: str
    people_per_job: int
    warm: bool
    pair_seconds: float | None = None


@dataclass(frozen=True)
class Job:
    """Seconds of a job's parts after its start; `preparation` is what is asked once a forget pair, before the steps."""

    preparation: float
    steps: float
    evaluation: float
    packaging: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.preparation + self.steps + self.evaluation + self.packaging


@lru_cache
def job_of(numbers: Numbers, strategy: Strategy, people: int) -> Job:
    """The parts of one job, by the defaults of its method as they are in this tree."""
    published = _run(numbers, PUBLISHED, people)
    if strategy.pair_seconds is not None:
        training = _drawn(published, people * numbers.forget_pairs_a_person) * strategy.pair_seconds
        return Job(0.0, training, training * numbers.evaluation_share, numbers.packaging_seconds)
    pairs = people * numbers.forget_pairs_a_person
    evaluation = numbers.evaluation_share * _seconds(numbers, run_passes(published, pairs, pairs))
    config = _run(numbers, strategy.method, people)
    passes = run_passes(config, pairs, pairs)
    ahead = prepared_passes(config, pairs)
    share = ahead / passes
    training = _seconds(numbers, passes)
    return Job(share * training, (1 - share) * training, evaluation, numbers.packaging_seconds)


def prepared_passes(config: UnlearnConfig, forget_pairs: int) -> int:
    """Teachers' passes that don't grow with the steps: those once a forget pair."""
    drawn = _drawn(config, forget_pairs)
    passes = config.method.teacher_passes(drawn, forget_pairs)
    return passes if config.method.teacher_passes(2 * drawn, forget_pairs) == passes else 0


def _drawn(config: UnlearnConfig, forget_pairs: int) -> int:
    """Forget pairs of all of a run's batches."""
    return config.training.steps_for(forget_pairs, forget_pairs) * config.training.forget_batch_size


def _run(numbers: Numbers, method: str, people: int) -> UnlearnConfig:
    """A method's own settings, with the steps that so many people need."""
    config, people = settings(method), max(people, numbers.least_people_a_run)
    share = people / numbers.people_a_run
    if config.training.steps is None:  # it knows itself what more people need
        share = min(1.0, share)
    pairs = max(people, numbers.people_a_run) * numbers.forget_pairs_a_person
    steps = max(1, round(config.training.steps_for(pairs, pairs) * share))
    return config.model_copy(update={"training": config.training.model_copy(update={"steps": steps})})


def _seconds(numbers: Numbers, passes: int) -> float:
    if passes < PASSES_WORTH_COMPILING:
        return passes * numbers.eager_pair_seconds / numbers.passes_a_pair
    return numbers.compile_seconds + passes * numbers.compiled_pair_seconds / numbers.passes_a_pair
