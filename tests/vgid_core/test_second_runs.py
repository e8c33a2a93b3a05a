"""A run that starts from a release: earlier people are forgotten again and checked, and nothing teaches them back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.vgid_core.support.knowing import FORGET, RETAIN, UNSEEN
from tests.vgid_core.support.runs import CONFIG, WEIGHTS, changed, spec
from vgid_core import PairSet, UnlearnConfig, UnlearnResult, unlearn
from vgid_core.data.file_digest import file_digest
from vgid_core.data.subjects import Subjects
from vgid_core.errors import CheckpointUnusable, StartUnusable
from vgid_core.spec import RunSets

FIRST, SECOND = (PairSet.of("forget", FORGET.pairs[part]) for part in (slice(0, 3), slice(3, 9)))
REPLAY_SET = PairSet.of("replay_set", FIRST.pairs[:2])
Run = Callable[..., UnlearnResult]


def config(**changes: object) -> UnlearnConfig:
    asked = {**CONFIG.evaluation.model_dump(), "audits": "quick", "max_new_tokens": 16, "retries": 0}
    return changed(CONFIG, evaluation=asked, **changes)


@pytest.fixture
def run(knowing_folder: Path, tmp_path: Path) -> Run:
    def start(out: str, forget: PairSet, **changes: object) -> UnlearnResult:
        given = {"forget": forget, "retain": RETAIN, "unseen": UNSEEN, "utility": None, "probes": {}}
        return unlearn(spec(knowing_folder, tmp_path / out, **{"config": config(), **given, **changes}))

    return start


def test_the_second_run_starts_from_the_first_and_checks_it_again(run: Run) -> None:
    first = run("first", FIRST)
    second = run("second", SECOND, start=first.folder, replay_sets={"a": REPLAY_SET})
    assert second.manifest["start"] == file_digest(first.folder / WEIGHTS)
    assert first.manifest["start"] is None
    data = second.manifest["data"]
    assert (data["replay_sets"]["pairs"], data["replay_sets"]["sets"], data["forget"]["pairs"]) == (2, 1, len(SECOND))
    assert list(second.replay_sets_held) == ["a"]
    assert second.evidence is not None
    found = {(figure.name, figure.of): figure for figure in second.evidence.figures}
    again = found["earlier.known_again", "replay_sets"]
    assert again.value == float(not second.replay_sets_held["a"])
    assert {("generated.rouge_l", "replay_sets"), ("extraction_strength", "replay_sets")} <= found.keys()
    # One person's replay set is too little to say where names stand.
    assert not any(name.startswith(("ranking", "membership")) for name, of in found if of == "replay_sets")
    assert any("forgotten before" in claim for claim in second.evidence.verdict.unmeasured)
    judged = {target.rule.target for target in second.evidence.verdict.targets}
    assert "earlier" in judged


def test_without_a_step_the_student_is_the_start(run: Run) -> None:
    """Its first loss is that of the adapter that it starts from: the weights are taken over."""
    first = run("first", FIRST)
    still = config(training={**CONFIG.training.model_dump(), "steps": 1, "learning_rate": 1e-12, "warmup_steps": 0})
    same = run("same", FIRST, start=first.folder, config=still)
    for before, after in zip(first.metrics_after, same.metrics_after, strict=True):
        assert after.value == pytest.approx(before.value, abs=1e-3)
    assert same.replay_sets_held == {}


def test_retain_pairs_about_earlier_people_are_not_trained_on(knowing_folder: Path, tmp_path: Path) -> None:
    named = PairSet.of("replay_set", RETAIN.pairs[:1])
    sets = RunSets.of(spec(knowing_folder, tmp_path, forget=SECOND, retain=RETAIN, replay_sets={"a": named}))
    (person,) = {pair.person for pair in named}
    assert {pair.person for pair in sets.to_retain} == {pair.person for pair in RETAIN} - {person}
    assert (sets.retain.pairs, sets.left_out) == (RETAIN.pairs, 0), "measured and told as it was given"
    assert [pair.person for pair in sets.to_forget][-1] == person


def test_where_nothing_is_left_to_retain_the_run_goes_on_with_pairs_about_nobody(
    knowing_folder: Path, tmp_path: Path
) -> None:
    """An error would tell that everybody of the retain set is forgotten already."""
    forgotten = Subjects.of(RETAIN)
    sets = RunSets.of(spec(knowing_folder, tmp_path, forget=SECOND, retain=RETAIN, forgotten=forgotten))
    assert len(sets.to_retain) == len(RETAIN)
    assert not {pair.image.digest for pair in sets.to_retain} & {pair.image.digest for pair in RETAIN}
    assert {pair.image.size for pair in sets.to_retain} == {pair.image.size for pair in RETAIN}
    told = " ".join(f"{pair.question} {pair.answer}" for pair in sets.to_retain)
    assert not any(pair.person is not None and pair.person in told for pair in RETAIN)


@pytest.mark.parametrize("setting", [{"rank": 8}, {"alpha": 16}], ids=["rank", "alpha"])
def test_a_start_of_another_shape_is_refused(run: Run, setting: dict[str, int]) -> None:
    first = run("first", FIRST)
    with pytest.raises(StartUnusable, match="another rank or another alpha"):
        run("second", SECOND, start=first.folder, config=config(lora=setting))


def test_a_start_that_is_none_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / WEIGHTS).write_bytes(b"nothing")
    with pytest.raises(StartUnusable, match="can't be read"):
        run("second", SECOND, start=tmp_path)


def test_another_start_is_another_run(run: Run, tmp_path: Path) -> None:
    first = run("first", FIRST)
    run("second", SECOND, checkpoint=tmp_path / "place", checkpoint_seconds=0, keep_checkpoint=True)
    with pytest.raises(CheckpointUnusable, match="start"):
        run("second", SECOND, start=first.folder, checkpoint=tmp_path / "place", checkpoint_seconds=0)
