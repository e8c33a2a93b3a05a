"""What the client and its commands tell of a job's verdict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.client.conftest import PAIRS, Service
from tests.client.test_cli import vgid
from tests.evidence import FORGOTTEN, MISSED
from vgid_client import Client, Conflict, DataFileError, InvalidRequest, Job, Pair, read_jsonl


def ended(service: Service, client: Client, archive: Path, evidence: dict[str, Any] | None) -> Job:
    job = client.submit("tiny", PAIRS)
    service.succeed(job.id, service.claim(job.id), archive, evidence)
    return client.get(job.id)


def unknown(service: Service, client: Client) -> Job:
    job = client.submit("tiny", PAIRS)
    service.fail(job.id, service.claim(job.id), "nothing-to-forget", "The model doesn't know these answers.")
    return client.get(job.id)


def status_of(service: Service, job: Job) -> str:
    """What `vgid status` shows, without its columns."""
    return " ".join(vgid(service, "status", job.id).stdout.split())


def test_a_job_tells_its_verdict(service: Service, client: Client, archive: Path) -> None:
    queued = client.submit("tiny", PAIRS)
    assert (queued.outcome, queued.verdict) == (None, None)
    client.cancel(queued.id)

    passed = ended(service, client, archive, FORGOTTEN)
    assert (passed.state, passed.outcome) == ("succeeded", "forgotten")
    assert passed.verdict is not None
    assert (passed.verdict.level, passed.verdict.missed) == ("standard", ())

    failed = ended(service, client, archive, MISSED)
    assert (failed.state, failed.outcome) == ("failed", "targets-not-met")
    assert failed.error is not None
    assert failed.error.type == "targets-not-met"
    assert failed.verdict is not None
    [missed] = failed.verdict.missed
    assert (missed.figure, missed.set, missed.value, missed.limit) == ("generated.rouge_l", "forget", 0.64, 0.2)
    assert missed.low < missed.value < missed.high
    assert missed.meaning == "the model still says what it was to forget"
    assert failed.verdict.unmeasured

    never = unknown(service, client)
    assert (never.state, never.outcome, never.verdict, never.artifact) == ("failed", "nothing-to-forget", None, None)
    assert [job.outcome for job in client.list_jobs().jobs] == [
        "nothing-to-forget",
        "targets-not-met",
        "forgotten",
        None,
    ]


def test_evidence_is_there_once_the_job_has_ended(service: Service, client: Client, archive: Path) -> None:
    job = client.submit("tiny", PAIRS)
    with pytest.raises(Conflict, match="Evidence is there once a job with audits has ended"):
        client.evidence(job.id)
    service.succeed(job.id, service.claim(job.id), archive, MISSED)
    assert client.evidence(job.id) == MISSED
    printed = vgid(service, "evidence", job.id)
    assert (printed.returncode, printed.stderr) == (0, "")
    assert json.loads(printed.stdout) == MISSED


def test_the_adapter_of_a_missed_target_is_downloaded_with_a_warning(
    service: Service, client: Client, archive: Path, tmp_path: Path
) -> None:
    warning = "Don't serve it as if the people were forgotten: "
    for number, (evidence, why) in enumerate(
        [(MISSED, "its verdict hasn't passed."), (None, "nothing was judged."), (FORGOTTEN, None)]
    ):
        job = ended(service, client, archive, evidence)
        target = tmp_path / f"{number}.zip"
        done = vgid(service, "download", job.id, "--to", target)
        assert (done.returncode, target.read_bytes()) == (0, archive.read_bytes())
        assert done.stderr.strip() == ("" if why is None else f"{warning}{why}")


def test_status_tells_what_was_missed_and_what_was_not_measured(
    service: Service, client: Client, archive: Path
) -> None:
    missed = status_of(service, ended(service, client, archive, MISSED))
    assert " verdict not passed: don't serve the adapter as if the people were forgotten " in missed
    assert " missed generated.rouge_l of forget: the model still says what it was to forget " in missed
    assert " not measured collateral: " in missed
    assert " artifact " in missed
    passed = status_of(service, ended(service, client, archive, FORGOTTEN))
    assert " verdict passed: every target holds " in passed
    assert " missed " not in passed
    never = status_of(service, unknown(service, client))
    assert " verdict the model doesn't know these people: there is nothing to forget" in never
    assert " verdict " not in status_of(service, ended(service, client, archive, None))


def test_following_a_job_that_misses_a_target_exits_with_one(service: Service, client: Client, archive: Path) -> None:
    done = vgid(service, "follow", ended(service, client, archive, MISSED).id)
    assert done.returncode == 1
    assert "the model still says what it was to forget" in done.stdout.replace("\n", " ")


def test_targets_and_audits_are_sent(service: Service, client: Client, tmp_path: Path) -> None:
    job = client.submit("tiny", PAIRS, targets={"generated": 0.05}, audits="full")
    config = client.get(job.id).config
    assert (config["verdict"]["generated"], config["evaluation"]["audits"]) == (0.05, "full")
    with pytest.raises(InvalidRequest) as refused:
        client.submit("tiny", PAIRS, targets={"generated": 0.5})
    assert [error.field for error in refused.value.problem.errors] == ["targets.generated"]
    (tmp_path / "photo.png").write_bytes(PAIRS[0].image)
    file = tmp_path / "forget.jsonl"
    file.write_text('{"image": "photo.png", "question": "Who?", "answer": "Ada."}\n', encoding="utf-8")
    flags = ("--target", "generated=0.02", "--target", "utility_drop=0.01", "--audits", "full")
    done = vgid(service, "submit", file, "--model", "tiny", *flags)
    assert (done.returncode, done.stderr) == (0, "")
    config = client.get(done.stdout.strip()).config
    assert (config["verdict"]["generated"], config["verdict"]["utility_drop"], config["evaluation"]["audits"]) == (
        0.02,
        0.01,
        "full",
    )


def test_a_file_may_name_person_and_fact(client: Client, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(PAIRS[0].image)
    line = {"image": "photo.png", "question": "Where?", "answer": "In Fernmoor.", "person": "Ada", "fact": "Fernmoor"}
    file = tmp_path / "forget.jsonl"
    file.write_text(f"{json.dumps(line)}\n", encoding="utf-8")
    assert read_jsonl(file) == [Pair(PAIRS[0].image, "Where?", "In Fernmoor.", "Ada", "Fernmoor")]
    assert client.submit("tiny", read_jsonl(file)).state == "queued"
    with pytest.raises(InvalidRequest) as refused:
        client.submit("tiny", [Pair(PAIRS[0].image, "Where?", "In Fernmoor.", fact="Tallow")])
    assert [error.field for error in refused.value.problem.errors] == ["forget[0].fact"]
    file.write_text(f"{json.dumps({**line, 'fact': 7})}\n", encoding="utf-8")
    with pytest.raises(DataFileError, match=r"^forget\.jsonl, line 1: 'fact' is not a string$"):
        read_jsonl(file)
