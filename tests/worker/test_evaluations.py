"""Evaluations in a real worker: an adapter of an earlier job, the base alone, and what can't be measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs import repository
from jobs.states import Phase, State
from jobs.storage.inputs import JobInputs
from jobs.tables import Artifact
from tests.vgid_core.support.knowing import FORGET, RETAIN
from tests.vgid_core.support.tiny import save_tiny_model
from tests.waiting import eventually
from tests.worker.harness import SECRET_ANSWER, Ledger
from vgid_core.models.load import digest_of

pytestmark = pytest.mark.slow


def evidence(ledger: Ledger, job_id):
    with ledger.sessions() as s:
        return repository.evidence_of(s, job_id)


def test_an_adapter_is_measured_and_the_inputs_are_deleted(
    ledger: Ledger, start_worker, work_root: Path, tiny_folder: Path, knowing_folder: Path
):
    catalog = ledger.settings.catalog
    catalog.write_text(catalog.read_text().replace(str(tiny_folder), str(knowing_folder)))
    worker = start_worker()
    ledger.until(job_id := ledger.submit(), State.succeeded)

    job = ledger.until(evaluation := ledger.submit_evaluation(job_id, JobInputs(FORGET, RETAIN)), State.succeeded)

    measuring = [Phase.loading, Phase.baseline, Phase.evaluating]
    assert ledger.history(evaluation) == [State.queued, State.running, *measuring, State.succeeded]
    # The adapter is another person's, so these are known as before.
    assert (job.outcome, job.progress, job.total_steps) == ("targets-not-met", 1.0, 0)
    with ledger.sessions() as s:
        weights = {each["name"]: each["sha256"] for each in s.get_one(Artifact, job_id).files}
        assert s.get(Artifact, evaluation) is None
        splits = {(metric.stage, metric.split) for metric in repository.metrics_of(s, evaluation)}
    sets = ("forget", "retain", "registered_retain", "utility")
    assert splits == {(stage, split) for stage in ("before", "after") for split in sets}
    found = evidence(ledger, evaluation)
    assert found["measured"] == {
        "base_digest": digest_of(str(knowing_folder)),
        "adapter_sha256": weights["adapter_model.safetensors"],
        "pairs": {"forget": len(FORGET), "retain": len(RETAIN), "registered_retain": 3, "utility": 3},
    }
    assert found["verdict"]["outcome"] == job.outcome
    assert job.verdict["unmeasured"] == found["verdict"]["unmeasured"]
    assert job.wrapped_data_key is None
    eventually(lambda: ledger.job(evaluation).inputs_deleted_at)
    assert not any((ledger.settings.blob_dir / "inputs").iterdir())
    eventually(lambda: not list(work_root.glob("vgid-work-*/attempt-*")))
    assert SECRET_ANSWER not in worker.log.read_text() + json.dumps(found)


def test_a_killed_attempt_measures_the_base_again(ledger: Ledger, start_worker):
    worker = start_worker()
    evaluation = ledger.submit_evaluation()
    eventually(lambda: ledger.job(evaluation).phase in (Phase.baseline, Phase.evaluating), seconds=120)

    worker.attempt().kill()

    job = ledger.until(evaluation, State.succeeded)
    assert (job.attempt, job.outcome) == (2, "nothing-to-forget")
    assert evidence(ledger, evaluation)["measured"]["adapter_sha256"] is None


def test_what_cant_be_measured_fails_and_says_why(ledger: Ledger, start_worker, tiny_folder: Path, tmp_path: Path):
    worker = start_worker()
    ledger.until(job_id := ledger.submit(), State.succeeded)
    worker.terminate()
    other = save_tiny_model(tmp_path / "other", seed=7)
    catalog = ledger.settings.catalog.read_text()
    with ledger.sessions() as s:
        archive = ledger.blobs.path_of_artifact(s.get_one(Artifact, job_id).sha256)
    whole = archive.read_bytes()

    def fails(error_type: str) -> str:
        start_worker()
        job = ledger.until(ledger.submit_evaluation(job_id), State.failed)
        assert (job.error_type, job.outcome) == (error_type, None)
        return job.error_detail

    ledger.settings.catalog.write_text(catalog.replace(str(tiny_folder), str(other)))
    assert "another base" in fails("adapter-for-other-base")
    ledger.settings.catalog.write_text(catalog)
    archive.write_bytes(whole[:-100])
    assert fails("adapter-damaged") == "The adapter can't be unpacked."
    archive.unlink()
    assert fails("adapter-missing") == "The adapter isn't stored any more."
