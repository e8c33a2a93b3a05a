"""Runs that miss a target and train again: on which settings, from which base, and after an interruption."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.vgid_core.support.knowing import FORGET, RETAIN, UNSEEN, save_knowing_model
from tests.vgid_core.support.runs import WEIGHTS, spec
from vgid_core import Progress, UnlearnConfig, UnlearnResult, UnlearnSpec, unlearn
from vgid_core.config import VerdictTargets
from vgid_core.config.ladder import rungs
from vgid_core.errors import CheckpointUnusable
from vgid_core.training.checkpoints import has_checkpoint

STEPS = 4


class Interrupted(Exception):
    pass


@pytest.fixture(scope="module")
def knowing(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_knowing_model(tiny_folder, tmp_path_factory.mktemp("knowing") / "model")


def config(retries: int, steps: int = STEPS, **verdict: float) -> UnlearnConfig:
    training = {"steps": steps, "forget_batch_size": 3, "retain_batch_size": 3, "learning_rate": 1e-5}
    evaluation = {"audits": "quick", "max_new_tokens": 8, "retries": retries}
    values = {"device": "cpu", "method": "npo", "training": training, "evaluation": evaluation, "verdict": verdict}
    return UnlearnConfig.model_validate(values)


def run_of(model: Path, out: Path, settings: UnlearnConfig, **changes: object) -> UnlearnSpec:
    sets = {"forget": FORGET, "retain": RETAIN, "unseen": UNSEEN, "utility": None, "probes": {}}
    return spec(model, out, config=settings, checkpoint_seconds=0, **(sets | changes))


@pytest.fixture(scope="module")
def climbed(knowing: Path, tmp_path_factory: pytest.TempPathFactory) -> UnlearnResult:
    """A run that learns too slowly to forget in any number of steps, with two retries."""
    return unlearn(run_of(knowing, tmp_path_factory.mktemp("climbed") / "out", config(2)))


def at(rung: int, step: int) -> Callable[[Progress], None]:
    """Interrupts the run in this step of this rung, before the step is saved."""
    seen = [0]

    def interrupt(progress: Progress) -> None:
        seen[0] += progress.phase == "distilling" and progress.step == 1
        if (seen[0], progress.step) == (rung, step) and progress.phase == "distilling":
            raise Interrupted

    return interrupt


def test_the_manifest_has_the_settings_of_the_rung_that_made_the_adapter(
    knowing: Path, climbed: UnlearnResult, tmp_path: Path
) -> None:
    """And that rung began at the base, bit for bit: alone, its settings make the same adapter."""
    manifest = climbed.manifest
    assert manifest["verdict"]["outcome"] == "targets-not-met"
    last = rungs(config(2), len(FORGET))[-1]
    assert manifest["config"] == last.model_dump(mode="json")
    assert climbed.steps == manifest["steps"] == 2 * STEPS
    alone = unlearn(run_of(knowing, tmp_path / "out", config(0, 2 * STEPS)))
    assert alone.manifest["files"][WEIGHTS] == manifest["files"][WEIGHTS]
    assert alone.metrics_after == climbed.metrics_after
    assert alone.metrics_before == climbed.metrics_before


def test_a_run_climbs_no_further_than_it_must(knowing: Path, tmp_path: Path) -> None:
    lenient = {name: 0.5 if name in ("ranking", "membership") else 1 for name in VerdictTargets.model_fields}
    result = unlearn(run_of(knowing, tmp_path / "out", config(2, **lenient)))
    assert result.manifest["verdict"]["outcome"] == "forgotten"
    assert result.steps == STEPS


def test_every_rung_is_reported_with_its_steps(knowing: Path, tmp_path: Path) -> None:
    reports: list[Progress] = []
    unlearn(run_of(knowing, tmp_path / "out", config(1)), reports.append)
    steps = [(each.step, each.total_steps) for each in reports if each.phase == "distilling" and each.step]
    assert steps == [*((step, 4) for step in range(1, 5)), *((step, 6) for step in range(1, 7))]


@pytest.mark.parametrize(
    ("rung", "step", "resumed_after", "steps_left"),
    [(1, 3, 0, 2 + 6 + 8), (2, 1, 0, 6 + 8), (2, 4, 0, 3 + 8), (3, 1, 0, 8), (3, 5, 4, 4)],
    ids=["on the first", "before the second has saved", "on the second", "before the last has saved", "on the last"],
)
def test_an_interrupted_run_goes_on_at_its_rung_to_the_same_adapter(
    knowing: Path, climbed: UnlearnResult, tmp_path: Path, rung: int, step: int, resumed_after: int, steps_left: int
) -> None:
    interrupted = run_of(knowing, tmp_path / "out", config(2), checkpoint=tmp_path / "checkpoint")
    with pytest.raises(Interrupted):
        unlearn(interrupted, at(rung, step))
    assert has_checkpoint(tmp_path / "checkpoint")
    reports: list[Progress] = []
    result = unlearn(interrupted, reports.append)
    assert result.manifest["files"][WEIGHTS] == climbed.manifest["files"][WEIGHTS]
    assert result.manifest["config"] == climbed.manifest["config"]
    assert result.manifest["resumed_after"] == resumed_after
    assert result.metrics_after == climbed.metrics_after
    assert len([each for each in reports if each.phase == "distilling" and each.step]) == steps_left
    assert not has_checkpoint(tmp_path / "checkpoint")


def test_a_checkpoint_of_no_rung_is_refused(knowing: Path, tmp_path: Path) -> None:
    run = run_of(knowing, tmp_path / "out", config(1), checkpoint=tmp_path / "checkpoint")
    with pytest.raises(Interrupted):
        unlearn(run, at(1, 3))
    other = run_of(knowing, tmp_path / "out", config(1, 9), checkpoint=tmp_path / "checkpoint")
    with pytest.raises(CheckpointUnusable, match=r"config\.training\.steps"):
        unlearn(other)
