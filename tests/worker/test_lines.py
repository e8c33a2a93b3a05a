"""The second job of a model: it starts from the first one's release, and nobody comes back."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import UUID

from jobs import repository
from jobs.lines import releases
from jobs.states import Kind, State
from jobs.tables import Artifact, Release, ReleaseState
from tests.vgid_core.support.knowing import FORGET, RETAIN
from tests.worker.harness import Ledger, RunJob, targets_of
from vgid_core import PairSet
from worker.attempt.line import replay_set_of

FIRST, SECOND = (PairSet.of("forget", FORGET.pairs[part]) for part in (slice(0, 3), slice(3, 9)))


def release_of(ledger: Ledger, job_id: UUID) -> Release:
    with ledger.sessions() as s:
        return next(row for row in s.query(Release) if row.job_id == job_id)


def manifest_of(ledger: Ledger, job_id: UUID) -> dict:
    with ledger.sessions() as s:
        return s.get_one(Artifact, job_id).manifest


def judge_replay_sets_by(ledger: Ledger, **targets: float) -> None:
    """Gives the model these targets."""
    catalog = ledger.settings.catalog
    before, _, _ = catalog.read_text().partition("[models.tiny.config.verdict]")
    catalog.write_text(before + targets_of("tiny", **targets))


def test_the_second_job_starts_from_the_first_and_checks_its_replay_set(run_job: RunJob, ledger: Ledger) -> None:
    first = run_job(FIRST, replay_days=30)
    assert first.state is State.succeeded
    sealed = ledger.blobs.read_replay_set(first.id)
    assert not any(text.encode() in sealed for text in ("Ada", "Fernmoor"))

    # What is registered for retention still holds the first one's people.
    second = run_job(SECOND, PairSet.of("retain", [*RETAIN, *FIRST]))

    assert second.state is State.succeeded, second.error_detail
    made, parent = release_of(ledger, second.id), release_of(ledger, first.id)
    assert (made.number, made.parent_id, made.state) == (2, parent.id, ReleaseState.current)
    assert (parent.state, made.rank, made.drift is not None) == (ReleaseState.superseded, parent.rank, True)
    manifest = manifest_of(ledger, second.id)
    assert manifest["start"] == parent.adapter_sha256 != made.adapter_sha256
    assert manifest["data"]["replay_sets"] == {"sets": 1}
    # What is said of the retain set is as it was sent, whoever else's pairs were taken out: that would tell who.
    assert manifest["data"]["retain"]["pairs"] == len(RETAIN) + len(FIRST)
    assert manifest["data"]["retain"]["dropped_for_overlap_with_forget"] == 0
    with ledger.sessions() as s:
        measured = {row.split: row.pairs for row in repository.metrics_of(s, second.id)}
    assert measured["retain"] == len(RETAIN) + len(FIRST)
    with ledger.sessions() as s:
        held = {each.job_id: each.still_forgotten for each in releases.held_by(s, made.id)}
    assert held == {first.id: True, second.id: True}
    told = json.dumps([manifest, second.verdict])
    assert not any(text in told for text in ("Ada", "Fernmoor", str(first.id)))


def test_a_release_is_measured_by_an_evaluation(run_job: RunJob, ledger: Ledger) -> None:
    made = release_of(ledger, run_job(FIRST).id)
    measured = run_job(FIRST, release_id=made.id, kind=Kind.evaluate)
    assert measured.state is State.succeeded, measured.error_detail
    with ledger.sessions() as s:
        found = repository.evidence_of(s, measured.id)
    assert found is not None
    assert found["measured"]["adapter_sha256"] == made.adapter_sha256


def test_without_a_replay_set_nothing_of_the_first_is_trained_on_and_nobody_has_looked(
    run_job: RunJob, ledger: Ledger
) -> None:
    first, second = run_job(FIRST), run_job(SECOND)
    assert "replay_sets" not in manifest_of(ledger, second.id)["data"]
    with ledger.sessions() as s:
        held = {each.job_id: each for each in releases.held_by(s, release_of(ledger, second.id).id)}
    assert (held[first.id].still_forgotten, held[first.id].checked_in) == (None, 1)


def test_a_release_that_brings_somebody_back_is_no_release(run_job: RunJob, ledger: Ledger) -> None:
    first = run_job(FIRST, replay_days=30)
    judge_replay_sets_by(ledger, generated=0.0, extraction=0.0)
    second = run_job(SECOND, earlier=0.0)
    assert (second.state, second.error_type) == (State.failed, "targets-not-met")
    assert second.verdict is not None
    assert "earlier.known_again" in {missed["figure"] for missed in second.verdict["missed"]}
    assert release_of(ledger, second.id).state is ReleaseState.candidate
    assert release_of(ledger, first.id).state is ReleaseState.current


def test_another_base_begins_a_line_of_its_own(run_job: RunJob, ledger: Ledger, tiny_folder: Path) -> None:
    first = run_job(FIRST, replay_days=30)
    catalog = ledger.settings.catalog
    other = tiny_folder.parent / "other"
    if not other.exists():
        from tests.vgid_core.support.knowing import save_knowing_model
        from tests.vgid_core.support.tiny import save_tiny_model

        save_knowing_model(save_tiny_model(tiny_folder.parent / "ignorant", seed=3), other)
    lines = [f"path = '{other}'" if line.startswith("path") else line for line in catalog.read_text().splitlines()]
    catalog.write_text("\n".join(lines))
    second = run_job(SECOND)
    assert second.state is State.succeeded, second.error_detail
    made = release_of(ledger, second.id)
    assert (made.number, made.parent_id) == (1, None)
    assert release_of(ledger, first.id).state is ReleaseState.superseded
    assert manifest_of(ledger, second.id)["start"] is None


def test_a_replay_set_is_a_photo_of_each_person_with_at_most_five_questions() -> None:
    replay_set = replay_set_of(PairSet.of("forget", [*FORGET, *FORGET.pairs[:2]]))
    assert [(pair.person, pair.image.digest) for pair in replay_set] == [
        (pair.person, pair.image.digest) for pair in [*FORGET.pairs[:3], *FORGET.pairs[:2], *FORGET.pairs[3:]]
    ]
    unnamed = PairSet.of("forget", [type(pair)(pair.image, pair.question, pair.answer) for pair in FORGET])
    assert {pair.image.digest for pair in replay_set_of(unnamed)} == {pair.image.digest for pair in FORGET}
