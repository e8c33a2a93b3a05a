"""What an attempt makes of its run's verdict."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from jobs import repository
from jobs.states import State
from jobs.storage.inputs import JobInputs
from jobs.tables import Artifact, Job
from tests.vgid_core.support.knowing import COMMON, FORGET, RETAIN, UNSEEN
from tests.worker.harness import Ledger
from vgid_core import PairSet
from worker.checkpoint_folder import checkpoint_folder

KNOWN = PairSet.of("retain", RETAIN.pairs[:-2])
INPUTS = JobInputs(forget=FORGET, retain=KNOWN)

RunJob = Callable[[JobInputs], Job]


@pytest.fixture
def run_job(ledger: Ledger, run_here: Callable[[UUID], Job], knowing_folder: Path) -> RunJob:
    """Runs a job with the sets that the catalog registers for audits, in this process."""
    folder = ledger.settings.catalog.parent
    UNSEEN.write_jsonl(folder / "unseen.jsonl")
    PairSet.of("neighbours", RETAIN.pairs[-2:]).write_jsonl(folder / "neighbours.jsonl")
    sets = "unseen = 'unseen.jsonl'\nneighbours = 'neighbours.jsonl'\n"
    ledger.settings.catalog.write_text(f"[models.tiny]\npath = '{knowing_folder}'\ntitle = 'Tiny'\n{sets}")

    def run(inputs: JobInputs) -> Job:
        job = run_here(ledger.submit(2, wake=False, inputs=inputs, audits="quick"))
        assert not checkpoint_folder(ledger.settings, job.id).exists()
        assert ledger.blobs.inputs_older_than(-60) == []
        return job

    return run


def artifact_of(ledger: Ledger, job_id: UUID) -> Artifact | None:
    with ledger.sessions() as s:
        return s.get(Artifact, job_id)


def test_a_job_that_misses_a_target_climbs_and_ends_with_its_adapter(run_job: RunJob, ledger: Ledger) -> None:
    job = run_job(INPUTS)
    assert (job.state, job.outcome, job.error_type) == (State.failed, "targets-not-met", "targets-not-met")
    assert ledger.history(job.id) == [
        "queued", "running", "loading", "baseline", *["distilling", "evaluating"] * 2, "packaging", "failed"
    ]  # fmt: skip
    assert job.verdict is not None
    assert {"generated.rouge_l", "extraction_strength"} <= {missed["figure"] for missed in job.verdict["missed"]}
    artifact = artifact_of(ledger, job.id)
    assert artifact is not None
    with ledger.sessions() as s:
        evidence = repository.evidence_of(s, job.id)
    assert evidence is not None
    with zipfile.ZipFile(ledger.blobs.path_of_artifact(artifact.sha256)) as archive:
        assert json.loads(archive.read("evidence.json")) == evidence
        assert b"**This adapter has not passed.**" in archive.read("README.md")
    assert {file["name"] for file in artifact.files} >= {"evidence.json", "manifest.json"}
    of = {figure["set"] for figure in evidence["figures"]}
    assert of == {"forget", "retain", "neighbours"}
    assert all(figure["control"] for figure in evidence["figures"] if figure["figure"] == "generated.rouge_l")
    assert not any("collateral" in claim for claim in job.verdict["unmeasured"])
    told = json.dumps([evidence, artifact.manifest, job.verdict, job.error_detail])
    for name in ("Ada", "Quill", "Fernmoor", "Hale", "Nether"):
        assert name not in told


@pytest.mark.parametrize(
    ("forget", "error", "outcome"),
    [
        (PairSet.of("forget", UNSEEN.pairs[9:18]), "nothing-to-forget", "nothing-to-forget"),
        (PairSet.of("forget", COMMON.pairs[-2:]), "common-knowledge", None),
    ],
    ids=["unknown", "common"],
)
def test_what_cant_be_forgotten_ends_the_job_before_it_trains(
    run_job: RunJob, ledger: Ledger, forget: PairSet, error: str, outcome: str | None
) -> None:
    job = run_job(JobInputs(forget=forget, retain=KNOWN))
    assert (job.state, job.error_type, job.outcome, job.verdict) == (State.failed, error, outcome, None)
    assert job.error_detail
    assert ledger.history(job.id) == ["queued", "running", "loading", "baseline", "failed"]
    assert artifact_of(ledger, job.id) is None
