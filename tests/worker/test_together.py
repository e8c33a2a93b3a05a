"""Two requests in one run of a real worker: one training, and everything else apart."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID
from zipfile import ZipFile

import pytest

from jobs import repository
from jobs.clients import access
from jobs.lines import rebuilds, releases
from jobs.states import State
from jobs.storage.blobs import BlobMissing
from jobs.storage.crypto import Keyring
from jobs.storage.inputs import JobInputs
from jobs.tables import Artifact, Job
from tests.vgid_core.support.knowing import FORGET, RETAIN, UNSEEN, pairs_about
from tests.worker.harness import LOOSE, TRAINING, Ledger, settings_of, targets_of
from vgid_core import PairSet
from vgid_core.data.subjects import Subjects
from worker.attempt.line import LineKeeper

FIRST, SECOND = (PairSet.of("forget", FORGET.pairs[part]) for part in (slice(0, 3), slice(3, 9)))
Submit = Callable[..., UUID]


@pytest.fixture
def submit(ledger: Ledger, knowing_folder: Path) -> Submit:
    """Submits a job with the model's registered retain set, and targets that any adapter holds."""
    folder = ledger.settings.catalog.parent
    UNSEEN.write_jsonl(folder / "unseen.jsonl")
    RETAIN.write_jsonl(folder / "retain.jsonl")
    ledger.settings.catalog.write_text(
        f"[models.tiny]\npath = '{knowing_folder}'\ntitle = 'Tiny'\nunseen = 'unseen.jsonl'\n"
        f"[models.tiny.retain_sets.others]\nretain = 'retain.jsonl'\n{targets_of('tiny')}"
    )

    def send(forget: PairSet, **changes: Any) -> UUID:
        config = {"training": TRAINING, "verdict": LOOSE}
        probes = changes.pop("probes", {})
        return ledger._submit(config, "quick", False, JobInputs(forget, None, probes), **changes)

    return send


def noise(first_picture: int) -> PairSet:
    """Pairs that the model doesn't know."""
    return PairSet.of("forget", pairs_about(["Zed Void"], first_picture, ["Nilham"], ["ghost"]))


def document_of(ledger: Ledger, job_id: UUID) -> dict[str, Any]:
    with ledger.sessions() as s:
        found = repository.evidence_of(s, job_id)
    assert found is not None
    return dict(found)


def files_of(ledger: Ledger, job_id: UUID) -> dict[str, bytes]:
    with ledger.sessions() as s:
        sha256 = s.get_one(Artifact, job_id).sha256
    with ZipFile(io.BytesIO(ledger.blobs.path_of_artifact(sha256).read_bytes())) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_two_requests_have_one_adapter_and_everything_else_apart(
    submit: Submit, run_here: Callable[..., Job], ledger: Ledger
) -> None:
    probe = PairSet.of("again", SECOND.pairs[:2])
    first, second = submit(FIRST, replay_days=30), submit(SECOND, probes={"again": probe})
    assert run_here(first, together=2).state is State.succeeded
    other = ledger.job(second)
    assert (other.state, other.outcome, other.step) == (State.succeeded, "forgotten", 2)
    own_files, other_files = files_of(ledger, first), files_of(ledger, second)
    assert own_files["adapter_model.safetensors"] == other_files["adapter_model.safetensors"]
    for name in own_files.keys() - {"adapter_model.safetensors", "adapter_config.json", "README.md"}:
        assert own_files[name] != other_files[name], name
    own, mine = (json.loads(files["manifest.json"])["data"] for files in (own_files, other_files))
    assert (own["forget"]["pairs"], mine["forget"]["pairs"]) == (3, 6)
    assert own["together"] == mine["together"] == {"sets": 1}  # and nothing else
    assert ("again" in mine, "again" in own) == (True, False)
    asked = [
        next(f["items"] for f in document_of(ledger, each)["figures"] if f["figure"] == "generated.rouge_l")
        for each in (first, second)
    ]
    assert asked == [3, 6]
    with ledger.sessions() as s:
        current = releases.current(s, "tiny")
        assert current is not None
        assert {each.job_id for each in releases.held_by(s, current.id)} == {first, second}
        splits = {row.split for row in repository.metrics_of(s, second)}
    assert {"forget", "again"} <= splits
    for job_id in (first, second):
        with pytest.raises(BlobMissing):
            ledger.blobs.read_inputs(job_id)


def test_a_request_that_the_model_does_not_know_holds_up_nobody_even_if_it_is_claimed_first(
    submit: Submit, run_here: Callable[..., Job], ledger: Ledger
) -> None:
    with ledger.sessions.begin() as s:
        junk = access.create_client(s, "junk").id
    unknown, honest = submit(noise(90), client_id=junk), submit(FIRST)
    refused = run_here(unknown, together=2)
    assert (refused.state, refused.error_type, refused.attempt) == (State.failed, "nothing-to-forget", 1)
    done = ledger.job(honest)
    assert (done.state, done.outcome, done.attempt, done.proven) == (State.succeeded, "forgotten", 1, True)
    assert ledger.history(honest).count("distilling") == 1
    assert "distilling" not in ledger.history(unknown)
    assert files_of(ledger, honest)["adapter_model.safetensors"]
    assert "together" not in json.loads(files_of(ledger, honest)["manifest.json"])["data"]
    with ledger.sessions() as s:
        current = releases.current(s, "tiny")
        assert current is not None
        assert [each.job_id for each in releases.held_by(s, current.id)] == [honest]
    for job_id in (unknown, honest):
        with pytest.raises(BlobMissing):
            ledger.blobs.read_inputs(job_id)


@pytest.mark.parametrize("lost", [0, 1])
def test_uploads_that_are_lost_fail_their_own_job_alone(
    submit: Submit, run_here: Callable[..., Job], ledger: Ledger, lost: int
) -> None:
    jobs = [submit(FIRST), submit(SECOND)]
    ledger.blobs.delete_inputs(jobs[lost])
    run_here(jobs[0], together=2)
    assert ledger.job(jobs[lost]).error_type == "inputs-missing"
    assert ledger.job(jobs[1 - lost]).state is State.succeeded


def test_a_run_of_which_nothing_can_be_run_is_over(
    submit: Submit, run_here: Callable[..., Job], ledger: Ledger
) -> None:
    first, second = (submit(noise(picture)) for picture in (90, 91))
    run_here(first, together=2)
    assert [ledger.job(each).state for each in (first, second)] == [State.failed] * 2


def test_a_cancellation_at_the_last_moment_costs_nobody_else_the_uploads(
    submit: Submit, run_here: Callable[..., Job], ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = submit(FIRST), submit(SECOND)
    put = ledger.blobs.put_artifact

    def cancel_first(_store: object, source: Path) -> tuple[str, int]:
        if ledger.job(first).cancel_requested_at is None:
            ledger.cancel(first)
        return put(source)

    monkeypatch.setattr("jobs.storage.blobs.FileBlobStore.put_artifact", cancel_first)
    assert run_here(first, together=2).state is State.cancelled
    with pytest.raises(BlobMissing):
        ledger.blobs.read_inputs(first)
    assert ledger.job(second).state is State.queued
    assert run_here(second, together=2).state is State.succeeded


def test_a_rebuild_forgets_the_replay_sets_again_from_the_base(
    submit: Submit, run_here: Callable[..., Job], ledger: Ledger
) -> None:
    again = PairSet.of("forget", [*FIRST, *(replace(pair, question=f"{pair.question} Say it.") for pair in FIRST)])
    first = submit(again, replay_days=30, replay_whole=True)
    second, without = submit(SECOND, replay_days=30), submit(FORGET)
    for job_id in (first, second, without):
        assert run_here(job_id).state is State.succeeded
    # A later request trains on a few pairs of a replay set, a rebuild on all of it.
    keeper = LineKeeper(ledger.sessions, ledger.blobs, Keyring(ledger.settings.secret_key_bytes))
    with TemporaryDirectory() as place:
        line = keeper.before(ledger.job(first), Path(place) / "start")
    assert {job_id: len(replay_set) for job_id, replay_set in line.replay_sets.items()} == {first: 5, second: 6}
    with ledger.settings.catalog.open("a") as catalog:
        catalog.write(settings_of("tiny", "training", TRAINING))
    with ledger.sessions.begin() as s:
        refused = rebuilds.order(s, "tiny", "others", 9).id
    assert run_here(refused).error_type == "replay-sets-missing"
    with ledger.sessions.begin() as s:
        rebuild = rebuilds.order(s, "tiny", "others", 9, [without]).id
    done = run_here(rebuild)
    assert done.state is State.succeeded, done.error_detail
    manifest = json.loads(files_of(ledger, rebuild)["manifest.json"])
    assert (manifest["start"], manifest["steps"]) == (None, 2)
    assert (manifest["data"]["forget"]["pairs"], manifest["data"]["replay_sets"]["sets"]) == (12, 2)
    assert {figure["figure"] for figure in document_of(ledger, rebuild)["figures"]} >= {"earlier.known_again"}
    with ledger.sessions() as s:
        current = releases.current(s, "tiny")
        assert current is not None
        assert (current.job_id, current.number) == (rebuild, 4)
        assert {each.job_id: each.still_forgotten for each in releases.held_by(s, current.id)} == {
            first: True,
            second: True,
        }
    # Whoever is left out stays marked: no retain set may teach them.
    with TemporaryDirectory() as place:
        marks = keeper.before(ledger.job(first), Path(place) / "start").marks
    assert keeper.marked([FORGET], marks) == Subjects.of(FORGET)


def test_without_a_replay_set_there_is_nothing_to_rebuild(
    submit: Submit, run_here: Callable[..., Job], ledger: Ledger
) -> None:
    without = submit(FIRST)
    run_here(without)
    with ledger.sessions.begin() as s:
        rebuild = rebuilds.order(s, "tiny", "others", 0, [without]).id
    assert run_here(rebuild).error_type == "no-replay-sets"
