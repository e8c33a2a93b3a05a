"""Runs that end with a verdict, on a tiny model that knows a few people by heart."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from tests.vgid_core.support.knowing import COMMON, FORGET, RETAIN, UNSEEN
from tests.vgid_core.support.runs import CONFIG as SHORT
from tests.vgid_core.support.runs import WEIGHTS, changed, spec
from vgid_core import EncodedImage, Pair, PairSet, Progress, UnlearnConfig, UnlearnResult, unlearn
from vgid_core.config import VerdictTargets
from vgid_core.errors import (
    CheckpointUnusable,
    CommonKnowledge,
    NothingToForget,
    RetainHoldsForgotten,
    RunStopped,
    UnlearnError,
)

LOOSE = {name: 0.5 if name in ("ranking", "membership") else 1 for name in VerdictTargets.model_fields}
WITHOUT_OTHERS: dict[str, object] = {"utility": None, "probes": {}}


def config(steps: int = 2, verdict: dict[str, float] | None = None, **evaluation: object) -> UnlearnConfig:
    asked = {**SHORT.evaluation.model_dump(), "audits": "quick", "max_new_tokens": 16, **evaluation}
    training = {**SHORT.training.model_dump(), "steps": steps}
    return changed(SHORT, evaluation=asked, training=training, verdict=verdict or {})


Run = Callable[..., UnlearnResult]


@pytest.fixture
def run(knowing_folder: Path, tmp_path: Path) -> Run:
    """Makes the knowing model forget two people, who need more than a few steps."""

    def start(on_step: Callable[[Progress], None] | None = None, **changes: object) -> UnlearnResult:
        stop, out = changes.pop("stop", None), changes.pop("out", tmp_path / "out")
        sets = {"forget": FORGET, "retain": RETAIN, "unseen": UNSEEN, **WITHOUT_OTHERS, "config": config()}
        return unlearn(spec(knowing_folder, out, **(sets | changes)), on_step, stop=stop)

    return start


def test_a_missed_target_is_trained_for_again_and_stands_in_the_adapter(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reports: list[Progress] = []
    result = run(reports.append)
    assert result.evidence is not None
    verdict = result.evidence.verdict
    assert (verdict.outcome, verdict.passed) == ("targets-not-met", False)
    assert {each.figure.name for each in verdict.missed} >= {
        "generated.rouge_l",
        "extraction_strength",
        "prefill.up_to_fact",
    }
    phases = [str(now.phase) for now, before in zip(reports, [None, *reports], strict=False) if now is not before]
    changes = [phase for phase, before in zip(phases, ["", *phases], strict=False) if phase != before]
    assert changes == ["loading", "baseline", *["distilling", "evaluating"] * 2, "packaging"]
    assert [report.step for report in reports if report.phase == "distilling" and report.step] == [1, 2, 1, 2, 3]
    assert any(message.startswith("targets missed: generated.rouge_l, ") for message in caplog.messages)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (result.steps, manifest["steps"], manifest["config"]["training"]["steps"]) == (3, 3, 3)
    assert manifest["verdict"] == verdict.as_json()
    assert json.loads((tmp_path / "out" / "evidence.json").read_text()) == result.evidence.as_json()
    assert "**This adapter has not passed.**" in (tmp_path / "out" / "README.md").read_text()


def test_evidence_names_nobody(run: Run, tmp_path: Path) -> None:
    run()
    told = b"".join(file.read_bytes() for file in (tmp_path / "out").iterdir()).decode(errors="ignore")
    for word in ("Ada", "Quill", "Fernmoor", "Marsh", "Hale", "Nether"):
        assert word not in told


def test_a_run_without_retries_trains_once(run: Run) -> None:
    assert run(config=config(retries=0)).steps == 2


def test_a_run_whose_targets_hold_passes_at_once(run: Run, tmp_path: Path) -> None:
    result = run(config=config(verdict=LOOSE, retries=2))
    assert result.evidence is not None
    assert (result.steps, result.evidence.verdict.outcome) == (2, "forgotten")
    assert "Every target of the verdict holds" in (tmp_path / "out" / "README.md").read_text()


def test_a_run_without_audits_has_no_verdict(run: Run, tmp_path: Path) -> None:
    result = run(config=config(audits="none"))
    assert (result.steps, result.evidence, result.manifest["verdict"]) == (2, None, None)
    assert not (tmp_path / "out" / "evidence.json").exists()
    assert "there is no verdict" in (tmp_path / "out" / "README.md").read_text()


def test_a_quick_verdict_says_what_it_left_out(run: Run) -> None:
    result = run(config=config(retries=0))
    assert result.evidence is not None
    unmeasured = result.evidence.verdict.unmeasured
    for claim in ("relearning", "other facts in the prompt", "the name in the prompt"):
        assert f"{claim}: the level `quick` leaves it out" in unmeasured
    assert any(claim.startswith("collateral: ") for claim in unmeasured)


def refused(run: Run, error: type[UnlearnError], tmp_path: Path, **changes: object) -> list[str]:
    """The phases of a run that this error ends, without anything written."""
    reports: list[Progress] = []
    with pytest.raises(error):
        run(reports.append, **changes)
    assert not (tmp_path / "out").exists()
    return list(dict.fromkeys(str(report.phase) for report in reports))


def test_a_model_that_never_knew_has_nothing_to_forget(run: Run, tiny_folder: Path, tmp_path: Path) -> None:
    assert refused(run, NothingToForget, tmp_path, model=str(tiny_folder)) == ["loading", "baseline"]
    assert refused(run, NothingToForget, tmp_path, forget=UNSEEN, unseen=None) == ["loading", "baseline"]


def test_what_any_photo_brings_is_common_knowledge(run: Run, tmp_path: Path) -> None:
    common = PairSet.of("forget", COMMON.pairs[-2:])
    assert refused(run, CommonKnowledge, tmp_path, forget=common) == ["loading", "baseline"]


def saved_anew(pair: Pair) -> Pair:
    stream = BytesIO()
    pair.image.decode().save(stream, format="JPEG", quality=90)
    return Pair(EncodedImage(stream.getvalue()), pair.question, "Somebody.")


def test_a_retain_set_that_holds_the_photos_to_forget_is_refused(run: Run, tmp_path: Path) -> None:
    retain = PairSet.of("retain", [*RETAIN, saved_anew(FORGET.pairs[0])])
    assert refused(run, RetainHoldsForgotten, tmp_path, retain=retain) == ["loading"]


def test_a_run_stopped_on_its_second_rung_goes_on_there_to_the_same_adapter(run: Run, tmp_path: Path) -> None:
    whole = run(out=tmp_path / "whole")
    seen: list[int] = []
    halves = {"out": tmp_path / "halves", "checkpoint": tmp_path / "checkpoint", "checkpoint_seconds": 0}

    def second_step_of_the_second_rung() -> bool:
        return seen[-4:] == [1, 2, 1, 2]

    def note(report: Progress) -> None:
        if report.phase == "distilling" and report.step:
            seen.append(report.step)

    with pytest.raises(RunStopped):
        run(note, stop=second_step_of_the_second_rung, **halves)
    seen.clear()
    result = run(note, **halves)
    assert seen == [3]
    assert result.manifest["resumed_after"] == 2
    assert (tmp_path / "halves" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()
    assert result.evidence == whole.evidence
    assert not (tmp_path / "checkpoint").exists()


def test_another_runs_checkpoint_is_told_from_a_rungs(run: Run, tmp_path: Path) -> None:
    kept = {"checkpoint": tmp_path / "checkpoint", "checkpoint_seconds": 0}
    with pytest.raises(RunStopped):
        run(stop=lambda: True, **kept)
    with pytest.raises(CheckpointUnusable) as error:
        run(config=changed(config(), seed=9), **kept)
    assert str(error.value) == "the checkpoint is another run's, which differs in config.seed"
