"""What is handed out of a release, and lines that one client has for itself."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from uuid import UUID
from zipfile import ZipFile

import pytest

from jobs import repository
from jobs.clients import access
from jobs.lines import forgotten, releases
from jobs.signing.keys import key_file
from jobs.states import Kind, State
from jobs.storage.inputs import JobInputs
from jobs.tables import Artifact, Job, Release, ReleaseState
from tests.vgid_core.support.knowing import FORGET, RETAIN
from tests.worker.harness import LOOSE, TRAINING, Ledger, RunJob
from vgid_core import PairSet
from vgid_core.serving.evidence import AdapterEvidence
from vgid_verify import verify_folder

FIRST, SECOND = (PairSet.of("forget", FORGET.pairs[part]) for part in (slice(0, 3), slice(3, 9)))
MEMBERS = [
    "README.md", "adapter_config.json", "adapter_model.safetensors", "manifest.json", "model.sig",
    "statement.intoto.jsonl",
]  # fmt: skip


def current(ledger: Ledger, line: str = "") -> Release:
    with ledger.sessions() as s:
        found = releases.current(s, "tiny", line)
    assert found is not None
    return found


def unpacked(ledger: Ledger, release: Release, folder: Path) -> Path:
    """The release's own zip, unpacked."""
    assert release.zip_sha256 is not None
    path = ledger.blobs.path_of_artifact(release.zip_sha256)
    assert path.stat().st_size == release.zip_bytes
    with ZipFile(path) as archive:
        assert sorted(archive.namelist()) == MEMBERS
        archive.extractall(folder)
    return folder


def new_client(ledger: Ledger, name: str) -> UUID:
    with ledger.sessions.begin() as s:
        return access.create_client(s, name).id


def told_by_runs(ledger: Ledger, jobs: list[Job]) -> set[str]:
    """What the jobs' own artifacts tell of them and of their runs: ids, times, seconds, digests of data, figures."""
    found = {str(job.id) for job in jobs} | {f"{job.finished_at:%Y-%m-%dT%H:%M}" for job in jobs if job.finished_at}
    with ledger.sessions() as s:
        for job in jobs:
            manifest = s.get_one(Artifact, job.id).manifest
            evidence = repository.evidence_of(s, job.id)
            assert evidence is not None
            # A shorter one can stand in it by chance, as part of a version.
            found |= {str(value) for value in manifest["seconds"].values() if len(str(value)) >= 5}
            found |= {entry["hmac-sha256"] for entry in manifest["data"].values() if "hmac-sha256" in entry}
            found |= {manifest["created_at"], job.finished_at.isoformat() if job.finished_at else ""}
            found |= {repr(row["value"]) for row in evidence["figures"] if len(repr(row["value"])) > 6}
    return found - {""}


def test_a_release_tells_of_no_request(run_job: RunJob, ledger: Ledger, tmp_path: Path) -> None:
    first = run_job(FIRST, replay_days=30, external_id="case-of-the-first")
    second = run_job(SECOND, client_id=new_client(ledger, "another"))
    assert (first.state, second.state) == (State.succeeded, State.succeeded), (first.error_detail, second.error_detail)
    folder = unpacked(ledger, current(ledger), tmp_path / "release")

    # Every text in it, with what the signatures' encoding hides; then every byte, the weights' too.
    envelope = json.loads((folder / "statement.intoto.jsonl").read_text())
    statement = json.loads(base64.b64decode(envelope["payload"]))
    signed_at = statement["predicate"].pop("vgid_signed_at")
    written = json.dumps(statement) + "".join(
        (folder / name).read_text() for name in ("README.md", "adapter_config.json", "manifest.json")
    )
    private = told_by_runs(ledger, [first, second])
    assert len(private) > 10
    assert [value for value in private if value in written] == []
    everything = b"".join(path.read_bytes() for path in folder.iterdir())
    assert [value for value in private if len(value) >= 8 and value.encode() in everything] == []
    words = (
        "pairs",
        "replay_set",
        "steps",
        "seconds",
        "metrics",
        "evidence.json",
        "seed",
        "case-of-the-first",
        "retain",
        "sets",
    )
    manifest = (folder / "manifest.json").read_text() + json.dumps(statement["predicate"])
    assert [word for word in words if word in manifest] == []
    assert set(statement["predicate"]) == {"adapter", "base", "properties", "vgid_folder_key"}
    # The moment at which it was signed is told, and lies within the run that made it.
    assert second.started_at is not None
    assert second.finished_at is not None
    assert second.started_at.isoformat() < signed_at < second.finished_at.isoformat()


def test_a_release_is_verified_offline_and_is_served_as_it_says(
    run_job: RunJob, ledger: Ledger, tmp_path: Path
) -> None:
    made = run_job(FIRST)
    release = current(ledger)
    folder = unpacked(ledger, release, tmp_path / "release")
    with ledger.sessions() as s:
        keys, artifact = key_file(s), s.get_one(Artifact, made.id)
    report = verify_folder(folder, keys)
    assert (report.holds, report.passed, report.outcome) == (True, True, "release"), report.checks
    assert report.release is not None
    assert report.release["adapter"] == {"sha256": release.adapter_sha256}
    assert report.release["base"]["digest"] == {"vgid-base": release.base_digest}
    assert (report.evidence, report.measured, report.job_digest, report.set_digests) == (None, {}, "", {})
    # The name under which a server finds it is that of the job's own adapter, and the weights are the same.
    evidence = AdapterEvidence.read(folder)
    assert (evidence.name, evidence.digest) == (artifact.manifest["serving"]["name"], release.adapter_sha256)
    assert (evidence.rouge_l, evidence.knew, evidence.lora.rank) == ({}, False, release.rank)

    (folder / "adapter_config.json").write_text("{}")
    assert not verify_folder(folder, keys).holds


def test_what_did_not_pass_has_nothing_to_hand_out(run_job: RunJob, ledger: Ledger) -> None:
    missed = run_job(FIRST, generated=0.0, extraction=0.0)
    assert missed.error_type == "targets-not-met"
    with ledger.sessions() as s:
        [made] = s.query(Release).all()
    assert (made.state, made.zip_sha256, made.zip_bytes) == (ReleaseState.candidate, None, None)


@pytest.mark.usefixtures("run_job")  # which registers the model
def test_one_zip_is_made_for_a_run_of_several(ledger: Ledger, run_here: RunJob, tmp_path: Path) -> None:
    registered = ledger.settings.catalog.parent / "knowing.jsonl"
    RETAIN.write_jsonl(registered)
    with ledger.settings.catalog.open("a") as catalog:
        catalog.write(f"[models.tiny.retain_sets.all]\nretain = '{registered}'\n")
    config = {"training": TRAINING, "verdict": LOOSE}
    first, second = (
        ledger._submit(config, "quick", False, JobInputs(pairs), client_id=client)
        for pairs, client in ((FIRST, ledger.client_id), (SECOND, new_client(ledger, "another")))
    )
    run_here(first, together=2)
    assert [ledger.job(each).state for each in (first, second)] == [State.succeeded] * 2
    with ledger.sessions() as s:
        [release] = s.query(Release).all()
        assert {each.job_id for each in releases.held_by(s, release.id)} == {first, second}
        keys = key_file(s)
    assert verify_folder(unpacked(ledger, release, tmp_path / "release"), keys).passed


def test_a_run_starts_from_the_releases_own_zip_and_measures_it(run_job: RunJob, ledger: Ledger) -> None:
    first = run_job(FIRST)
    parent = current(ledger)
    with ledger.sessions() as s:
        of_job = s.get_one(Artifact, first.id).sha256
    ledger.blobs.path_of_artifact(of_job).unlink()  # nobody needs the job's own artifact any more
    second = run_job(SECOND)
    assert second.state is State.succeeded, second.error_detail
    with ledger.sessions() as s:
        assert s.get_one(Artifact, second.id).manifest["start"] == parent.adapter_sha256
    measured = run_job(FIRST, release_id=parent.id, kind=Kind.evaluate)
    assert measured.state is State.succeeded, measured.error_detail


def test_a_release_without_a_zip_is_read_from_its_jobs_artifact(run_job: RunJob, ledger: Ledger) -> None:
    run_job(FIRST)
    with ledger.sessions.begin() as s:
        before = s.get_one(Release, current(ledger).id)
        before.zip_sha256 = before.zip_bytes = None
    second = run_job(SECOND)
    assert second.state is State.succeeded, second.error_detail
    assert current(ledger).parent_id == before.id


def test_a_line_of_ones_own_knows_nothing_of_another_clients(run_job: RunJob, ledger: Ledger) -> None:
    own, other = str(ledger.client_id), new_client(ledger, "another")
    first = run_job(FIRST, line=own, replay_days=30)
    # Its retain pairs are about the people whom the other client had forgotten, and all of them are trained on.
    second = run_job(SECOND, PairSet.of("retain", [*FIRST]), line=str(other), client_id=other)
    assert second.state is State.succeeded, second.error_detail
    mine, theirs = current(ledger, own), current(ledger, str(other))
    assert [(each.number, each.parent_id) for each in (mine, theirs)] == [(1, None)] * 2
    with ledger.sessions() as s:
        manifest = s.get_one(Artifact, second.id).manifest
        assert (manifest["start"], "replay_sets" in manifest["data"]) == (None, False)
        assert {row.split: row.pairs for row in repository.metrics_of(s, second.id)}["retain"] == len(FIRST)
        for release, job in ((mine, first), (theirs, second)):
            assert [each.job_id for each in releases.held_by(s, release.id)] == [job.id]
        assert not forgotten.marks(s, "tiny")
        assert forgotten.marks(s, "tiny", own).isdisjoint(forgotten.marks(s, "tiny", str(other)))

    third = run_job(SECOND, line=own)
    assert third.state is State.succeeded, third.error_detail
    assert current(ledger, own).parent_id == mine.id
    assert current(ledger, str(other)).id == theirs.id
