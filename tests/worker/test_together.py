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
from jobs.lines import rebuilds, releases
from jobs.states import State
from jobs.storage.blobs import BlobMissing
from jobs.storage.crypto import Keyring
from jobs.storage.inputs import JobInputs
from jobs.tables import Artifact, Job
from tests.vgid_core.support.knowing import FORGET, NEVER_SEEN, RETAIN
from tests.worker.harness import Ledger
from tests.worker.test_lines import LOOSE, TRAINING
from vgid_core import PairSet
from worker.attempt.line import LineKeeper

FIRST, SECOND = (PairSet.of("forget", FORGET.pairs[part]) for part in (slice(0, 3), slice(3, 9)))
Submit = Callable[..., UUID]


@pytest.fixture
def submit(ledger: Ledger, knowing_folder: Path) -> Submit:
    """Submits a job with the model's registered retain set, and targets that any adapter holds."""
    folder = ledger.settings.catalog.parent
    NEVER_SEEN.write_jsonl(folder / "never_seen.jsonl")
    RETAIN.write_jsonl(folder / "retain.jsonl")
    ledger.settings.catalog.write_text(
        f"[models.tiny]\npath = '{knowing_folder}'\ntitle = 'Tiny'\nnever_seen = 'never_seen.jsonl'\n"
        "[models.tiny.retain_sets.others]\nretain = 'retain.jsonl'\n"
    )

    def send(forget: PairSet, **changes: Any) -> UUID:
        config = {"training": TRAINING, "verdict": LOOSE}
        probes = changes.pop("probes", {})
        return ledger._submit(config, "quick", False, JobInputs(forget, None, probes), **changes)

    return send


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
    first, second = submit(FIRST, kit_days=30), submit(SECOND, probes={"again": probe})
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
        next(f["items"] for f in document_of(ledger, each)["figures"] if f["figure"] == "said.rouge_l")
        for each in (first, second)
    ]
    assert asked == [3, 6]
    with ledger.sessions() as s:
        current = releases.current(s, "tiny")
        assert current is not None
        assert {each.job_id for each in releases.jobs_of(s, current.id)} == {first, second}
        splits = {row.split for row in repository.metrics_of(s, second)}
    assert {"forget", "again"} <= splits
    for job_id in (first, second):
        with pytest.raises(BlobMissing):
            ledger.blobs.read_inputs(job_id)


def test_one_that_the_model_does_not_know_is_nobody_elses_trouble(
    submit: Submit, run_here: Callable[..., Job], ledger: Ledger
) -> None:
    catalog = ledger.settings.catalog
    lines = [line for line in catalog.read_text().splitlines() if not line.startswith("never_seen")]
    catalog.write_text("\n".join(lines))
    unknown = PairSet.of("forget", NEVER_SEEN.pairs[:3])
    first, second = submit(FIRST), submit(unknown)
    assert run_here(first, together=2).state is State.queued
    assert [ledger.job(each).runs_alone for each in (first, second)] == [False, True]
    assert run_here(first, together=2).state is State.succeeded
    assert ledger.job(second).state is State.queued


def test_uploads_that_are_lost_fail_their_own_job(submit: Submit, run_here: Callable[..., Job], ledger: Ledger) -> None:
    first, second = submit(FIRST), submit(SECOND)
    ledger.blobs.delete_inputs(second)
    assert run_here(first, together=2).state is State.queued
    assert run_here(first, together=2).state is State.succeeded
    alone = run_here(second, together=2)
    assert (alone.state, alone.error_type) == (State.failed, "inputs-missing")


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


def test_a_rebuild_forgets_the_kits_again_from_the_base(
    submit: Submit, run_here: Callable[..., Job], ledger: Ledger
) -> None:
    again = PairSet.of("forget", [*FIRST, *(replace(pair, question=f"{pair.question} Say it.") for pair in FIRST)])
    first = submit(again, kit_days=30, kit_whole=True)
    second, without = submit(SECOND, kit_days=30), submit(FORGET)
    for job_id in (first, second, without):
        assert run_here(job_id).state is State.succeeded
    # A later request trains on a few pairs of a kit, a rebuild on all of it.
    keeper = LineKeeper(ledger.sessions, ledger.blobs, Keyring(ledger.settings.secret_key_bytes))
    with TemporaryDirectory() as place:
        line = keeper.before("tiny", Path(place) / "start")
    assert {job_id: len(kit) for job_id, kit in line.kits.items()} == {first: 5, second: 6}
    with ledger.settings.catalog.open("a") as catalog:
        catalog.write(f"[models.tiny.config]\n{toml_of({'training': TRAINING, 'verdict': LOOSE})}")
    with ledger.sessions.begin() as s:
        refused = rebuilds.order(s, "tiny", "others", 9).id
    assert run_here(refused).error_type == "kits-missing"
    with ledger.sessions.begin() as s:
        rebuild = rebuilds.order(s, "tiny", "others", 9, [without]).id
    done = run_here(rebuild)
    assert done.state is State.succeeded, done.error_detail
    manifest = json.loads(files_of(ledger, rebuild)["manifest.json"])
    assert (manifest["start"], manifest["steps"]) == (None, 2)
    assert (manifest["data"]["forget"]["pairs"], manifest["data"]["kits"]["sets"]) == (12, 2)
    assert {figure["figure"] for figure in document_of(ledger, rebuild)["figures"]} >= {"earlier.known_again"}
    with ledger.sessions() as s:
        current = releases.current(s, "tiny")
        assert current is not None
        assert (current.job_id, current.number) == (rebuild, 4)
        assert {each.job_id: each.still_forgotten for each in releases.jobs_of(s, current.id)} == {
            first: True,
            second: True,
        }
    # Whoever is left out stays marked: no retain set may teach them.
    with TemporaryDirectory() as place:
        marks = keeper.before("tiny", Path(place) / "start").marks
    assert keeper.marks_of(FORGET) <= marks


def test_without_a_kit_there_is_nothing_to_rebuild(
    submit: Submit, run_here: Callable[..., Job], ledger: Ledger
) -> None:
    without = submit(FIRST)
    run_here(without)
    with ledger.sessions.begin() as s:
        rebuild = rebuilds.order(s, "tiny", "others", 0, [without]).id
    assert run_here(rebuild).error_type == "no-kits"


def toml_of(tables: dict[str, dict[str, Any]]) -> str:
    """Settings of a model, as the catalog has them."""
    return "".join(
        f"[models.tiny.config.{name}]\n" + "".join(f"{key} = {value}\n" for key, value in table.items())
        for name, table in tables.items()
    )
