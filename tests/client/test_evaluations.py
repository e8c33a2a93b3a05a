"""Evaluations by the client and its commands, against the real API."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from jobs import endings
from tests.client.conftest import PAIRS, Service
from tests.client.test_cli import vgid
from tests.evidence import FORGOTTEN, MISSED
from vgid_client import Client, Conflict, Job, NotFound
from vgid_core.progress import Phase


def measure(service: Service, job_id: str, evidence: dict[str, object]) -> None:
    token = service.claim(job_id)
    service.report(job_id, token, Phase.evaluating, 0.6)
    service.measure(job_id, token, 0.9, 0.1)
    with service.sessions.begin() as s:
        assert endings.finish_evaluation(s, UUID(job_id), token, evidence) == "succeeded"


@pytest.fixture
def forgotten(service: Service, client: Client, archive: Path) -> Job:
    """A job that has ended with an adapter."""
    job = client.submit("tiny", PAIRS)
    service.succeed(job.id, service.claim(job.id), archive, FORGOTTEN)
    return client.get(job)


def test_an_evaluation_is_followed_to_its_outcome(service: Service, client: Client, forgotten: Job) -> None:
    asked = client.evaluate("tiny", PAIRS, adapter_of=forgotten.id, external_id="check-1", targets={"generated": 0.05})
    assert (asked.kind, asked.adapter_of, asked.state, asked.external_id) == (
        "evaluate", forgotten.id, "queued", "check-1"
    )  # fmt: skip
    measure(service, asked.id, MISSED)
    ended = client.wait(asked)
    assert (ended.state, ended.outcome, ended.artifact) == ("succeeded", "targets-not-met", None)
    assert ended == client.get_evaluation(asked.id)
    assert client.evidence(asked) == MISSED
    assert [metric.before for metric in client.metrics(asked)] == [0.9]
    assert next(event.kind for event in client.events(asked)) == "state"
    with pytest.raises(Conflict):
        client.cancel(asked)


def test_both_kinds_are_asked_for_apart(client: Client, forgotten: Job) -> None:
    asked = client.evaluate("tiny", PAIRS)
    assert asked.adapter_of is None
    assert [job.id for job in client.list_jobs().jobs] == [forgotten.id]
    assert [job.id for job in client.list_jobs(evaluations=True).jobs] == [asked.id]
    with pytest.raises(NotFound):
        client.get(asked.id)
    assert client.cancel(asked).state == "cancelled"


def test_the_same_key_makes_one_evaluation(client: Client) -> None:
    first, second = (client.evaluate("tiny", PAIRS, idempotency_key="one") for _ in range(2))
    assert first.id == second.id


def test_checking_prints_the_id_and_every_command_takes_it(
    service: Service, client: Client, forgotten: Job, request_file: Path
) -> None:
    done = vgid(service, "check", request_file, "--adapter-of", forgotten.id, "--audits", "full")
    assert (done.returncode, done.stderr) == (0, "")
    job = client.get_evaluation(done.stdout.strip())
    assert (job.model, job.adapter_of, job.config["evaluation"]["audits"]) == ("tiny", forgotten.id, "full")
    shown = vgid(service, "status", job.id).stdout
    assert f"the adapter of {forgotten.id}" in shown
    assert " step " not in shown
    assert job.id in vgid(service, "jobs", "--evaluations").stdout
    assert job.id not in vgid(service, "jobs").stdout
    measure(service, job.id, MISSED)
    assert vgid(service, "follow", job.id).returncode == 0
    assert "what was asked is still known" in vgid(service, "status", job.id).stdout
    assert '"generated.rouge_l"' in vgid(service, "evidence", job.id).stdout
    assert "ROUGE-L" in vgid(service, "metrics", job.id).stdout
    assert vgid(service, "cancel", job.id).returncode == 3


def test_checking_wants_an_adapter_or_a_model(service: Service, request_file: Path) -> None:
    for options in ([], ["--model", "tiny", "--adapter-of", "7"]):
        done = vgid(service, "check", request_file, *options)
        assert (done.returncode, "--adapter-of JOB or --model NAME" in done.stderr) == (2, True)
    done = vgid(service, "check", request_file, "--model", "tiny")
    assert "the model alone" in vgid(service, "status", done.stdout.strip()).stdout


@pytest.mark.parametrize(("evidence", "code"), [(FORGOTTEN, 0), (MISSED, 1)], ids=["forgotten", "missed"])
def test_following_a_check_ends_with_what_was_found(
    service: Service, request_file: Path, evidence: dict[str, object], code: int
) -> None:
    key = ["--idempotency-key", "check"]
    job_id = vgid(service, "check", request_file, "--model", "tiny", *key).stdout.strip()
    measure(service, job_id, evidence)
    done = vgid(service, "check", request_file, "--model", "tiny", *key, "--follow")
    assert done.returncode == code
    assert ("passed: every target holds" in done.stdout) == (code == 0)
