"""Early stopping: a run ends as soon as its targets hold, and is otherwise unchanged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.vgid_core.support.runs import WEIGHTS, spec
from tests.vgid_core.support.tiny import pair_set
from vgid_core import DataError, Pair, PairSet, Progress, UnlearnConfig, unlearn
from vgid_core.dry_run import estimate
from vgid_core.errors import RunStopped
from vgid_core.evaluation.evaluate import generate_answers
from vgid_core.models.load import load_base
from vgid_core.scoring.padded import PaddedScorer
from vgid_core.spec import UnlearnSpec


def config(targets: dict[str, object] | None, **training: object) -> UnlearnConfig:
    values = {"steps": 12, "forget_batch_size": 4, "retain_batch_size": 4, "learning_rate": 1e-2} | training
    return UnlearnConfig.model_validate(
        {
            "method": "vgid",
            "device": "cpu",
            "training": values | {"targets": targets},
            "evaluation": {"max_pairs": 4, "max_new_tokens": 8, "audits": "none"},
        }
    )


def with_the_bases_answers(tiny_folder: Path, pairs: PairSet) -> PairSet:
    """The pairs with the base's own answers, so that its ROUGE-L on them is 1."""
    settings = config(None)
    answers = generate_answers(load_base(str(tiny_folder), settings), pairs, settings.evaluation)
    return PairSet.of(pairs.name, [Pair(p.image, p.question, a) for p, a in zip(pairs, answers, strict=True)])


@pytest.mark.parametrize("begin", [unlearn, estimate])
def test_a_target_for_a_set_that_isnt_there_is_refused_before_the_model_is_read(
    tmp_path: Path, begin: Callable[[UnlearnSpec], object]
) -> None:
    run = spec(tmp_path / "no-model", tmp_path / "out", config=config({"forget_rouge_l": 0.1, "utility_fall": 0.1}))
    with pytest.raises(DataError, match=r"^utility: is needed by training\.targets\.utility_fall$"):
        begin(replace(run, utility=None))


@pytest.fixture
def known(tiny_folder: Path) -> PairSet:
    return with_the_bases_answers(tiny_folder, pair_set("forget", 4))


def test_a_run_ends_when_its_targets_hold(tiny_folder: Path, tmp_path: Path, known: PairSet) -> None:
    targets = {"forget_rouge_l": 0.25, "retain_fall": 1.0, "utility_fall": 1.0, "every_steps": 2, "pairs": 3}
    reports: list[Progress] = []
    result = unlearn(spec(tiny_folder, tmp_path / "out", forget=known, config=config(targets)), reports.append)
    assert result.metrics_before[0].value == 1
    checks = result.manifest["checks"]
    assert result.stop_reason == result.manifest["stop_reason"] == "targets-held"
    assert result.steps == checks[-1]["step"] == 2 * len(checks) < 12
    assert [check["held"] for check in checks] == [False] * (len(checks) - 1) + [True]
    assert len(checks) > 1, "at first they don't hold"
    assert all((check["rouge_l"]["forget"] <= 0.25) == check["held"] for check in checks)
    assert set(checks[0]["rouge_l"]) == {"forget", "retain", "utility"}
    assert all(set(check) == {"step", "rouge_l", "held", "seconds"} for check in checks)
    assert max(progress.step for progress in reports) == result.steps


def test_checks_change_nothing_else(tiny_folder: Path, tmp_path: Path, known: PairSet) -> None:
    """Both with dropout: a check must leave training mode and return to it."""
    never = {"forget_rouge_l": 0.0, "retain_fall": 0.0, "every_steps": 1, "pairs": 2}
    runs = []
    for name, targets in {"without": None, "with": never}.items():
        settings = config(targets, steps=3, learning_rate=1e-5).model_dump() | {"lora": {"dropout": 0.3}}
        run = spec(tiny_folder, tmp_path / name, forget=known, config=UnlearnConfig.model_validate(settings))
        runs.append(unlearn(run).manifest)
    without, checked = runs
    assert without["files"][WEIGHTS] == checked["files"][WEIGHTS]
    assert checked["stop_reason"] == without["stop_reason"] == "steps-done"
    assert (len(checked["checks"]), without["checks"]) == (3, [])


def test_a_retain_fall_above_its_target_keeps_the_run_going(tiny_folder: Path, tmp_path: Path, known: PairSet) -> None:
    """Without a retain term, the base's answers on the retain set are lost, too."""
    retain = with_the_bases_answers(tiny_folder, pair_set("retain", 4, first_picture=80))
    settings = config({"forget_rouge_l": 1.0, "retain_fall": 0.0, "every_steps": 4}, retain_weight=0)
    result = unlearn(spec(tiny_folder, tmp_path / "out", forget=known, retain=retain, config=settings))
    assert result.manifest["checks"][0]["rouge_l"]["retain"] < 1
    assert not result.manifest["checks"][0]["held"]


def test_targets_that_held_before_an_interruption_hold_after_it(
    tiny_folder: Path, tmp_path: Path, known: PairSet
) -> None:
    class Interrupted(Exception):
        pass

    def at_the_end(progress: Progress) -> None:
        if progress.phase == "evaluating":
            raise Interrupted

    targets = {"forget_rouge_l": 1.0, "every_steps": 2}
    run = spec(tiny_folder, tmp_path / "out", forget=known, config=config(targets), checkpoint=tmp_path / "checkpoint")
    with pytest.raises(Interrupted):
        unlearn(run, at_the_end)
    manifest = unlearn(run).manifest
    assert (manifest["resumed_after"], manifest["steps"], manifest["stop_reason"]) == (2, 2, "targets-held")
    assert len(manifest["checks"]) == 1


def test_a_run_stopped_at_a_check_has_made_it(tiny_folder: Path, tmp_path: Path, known: PairSet) -> None:
    never = config(
        {"forget_rouge_l": 0.0, "retain_fall": 0.0, "every_steps": 1, "pairs": 2}, steps=3, learning_rate=1e-5
    )
    run = spec(tiny_folder, tmp_path / "out", forget=known, config=never, checkpoint=tmp_path / "checkpoint")
    with pytest.raises(RunStopped):
        unlearn(run, stop=lambda: True)
    manifest = unlearn(run).manifest
    assert manifest["resumed_after"] == 1
    assert [check["step"] for check in manifest["checks"]] == [1, 2, 3]


def test_a_target_needs_its_set(tiny_folder: Path, tmp_path: Path) -> None:
    settings = config({"forget_rouge_l": 0.5, "utility_fall": 0.1})
    with pytest.raises(DataError) as error:
        unlearn(spec(tiny_folder, tmp_path / "out", utility=None, config=settings))
    assert error.value.field == "utility"


def test_padded_rows_stop_early_too(tiny_folder: Path, tmp_path: Path, known: PairSet) -> None:
    settings = config({"forget_rouge_l": 0.5, "every_steps": 3}).model_dump() | {"lora": {"scope": "language+vision"}}
    run = spec(tiny_folder, tmp_path / "out", forget=known, config=UnlearnConfig.model_validate(settings))
    result = unlearn(run)
    assert result.manifest["scorer"] == PaddedScorer.name
    assert result.stop_reason == "targets-held"
