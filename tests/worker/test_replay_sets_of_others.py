"""A client's replay sets judge its own requests. They fail nobody else's, and are checked in everybody's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from jobs import repository
from jobs.clients import access
from jobs.lines import releases
from jobs.lines.releases import Held
from jobs.states import State
from jobs.storage.inputs import JobInputs
from jobs.tables import Artifact, Job
from tests.vgid_core.support.knowing import FORGET, RETAIN, UNSEEN
from tests.vgid_core.support.tiny import picture
from tests.worker.harness import LOOSE, TRAINING, Ledger, targets_of
from vgid_core import PairSet
from vgid_core.config import VerdictTargets
from worker.attempt.line import Line

ADA, BO, CY = (PairSet.of("forget", FORGET.pairs[3 * index : 3 * index + 3]) for index in range(3))
STRICT = {"generated": 0.0, "extraction": 0.0}  # which two steps of training don't hold


@dataclass
class Office:
    """Clients of one model, whose registered set says what must stay."""

    ledger: Ledger
    run_here: Callable[..., Job]
    folder: Path

    def __post_init__(self) -> None:
        self.clients: dict[str, UUID] = {}
        UNSEEN.write_jsonl(self.ledger.settings.catalog.parent / "unseen.jsonl")
        RETAIN.write_jsonl(self.ledger.settings.catalog.parent / "retain.jsonl")
        self.judge_replay_sets()

    def judge_replay_sets(self, **targets: float) -> None:
        """Gives the model these targets, by which its replay sets are judged; any adapter holds the others."""
        self.ledger.settings.catalog.write_text(
            f"[models.tiny]\npath = '{self.folder}'\ntitle = 'Tiny'\nunseen = 'unseen.jsonl'\n"
            f"[models.tiny.retain_sets.all]\nretain = 'retain.jsonl'\n{targets_of('tiny', **targets)}"
        )

    def submit(self, client: str, forget: PairSet, retain: PairSet | None = None, **columns: Any) -> UUID:
        """Submits a job of the client's, whose own targets any adapter holds, but for what is known again."""
        with self.ledger.sessions.begin() as s:
            self.clients[client] = self.clients.get(client) or access.create_client(s, client).id
        config = {"training": TRAINING, "verdict": {**LOOSE, "earlier": 0.0}}
        inputs = JobInputs(forget, retain)
        return self.ledger._submit(config, "quick", False, inputs, client_id=self.clients[client], **columns)

    def run(self, client: str, forget: PairSet, retain: PairSet | None = None, **columns: Any) -> Job:
        return self.run_here(self.submit(client, forget, retain, **columns))

    def held(self) -> dict[UUID, bool | None]:
        """By job, whether the current release says that its people are still forgotten."""
        with self.ledger.sessions() as s:
            current = releases.current(s, "tiny")
            assert current is not None
            return {each.job_id: each.still_forgotten for each in releases.held_by(s, current.id)}

    def told(self, job_id: UUID) -> list[dict[str, Any]]:
        """The job's events about releases."""
        with self.ledger.sessions() as s:
            return [each.data for each in repository.events_after(s, job_id, 0, 1000) if each.kind == "release"]


@pytest.fixture
def office(ledger: Ledger, run_here: Callable[..., Job], knowing_folder: Path) -> Office:
    return Office(ledger, run_here, knowing_folder)


def test_a_replay_set_that_is_known_again_fails_no_other_clients_request(office: Office) -> None:
    """Its client could have filled it with what nobody can forget. It is told, and its people are asked about again."""
    first = office.run("one", ADA, replay_days=30)
    assert office.held() == {first.id: True}
    office.judge_replay_sets(**STRICT)
    second = office.run("another", BO)
    assert second.outcome == "forgotten", second.error_detail
    assert office.held() == {first.id: False, second.id: True}
    assert office.told(first.id)[-1] == {"number": 2, "state": "known_again"}
    third = office.run("one", CY)
    assert third.outcome == "forgotten", "what is lost already isn't this request's fault"
    assert [each["state"] for each in office.told(first.id)].count("known_again") == 1


def test_a_replay_set_that_is_known_again_fails_its_own_clients_request(office: Office) -> None:
    first = office.run("one", ADA, replay_days=30)
    office.judge_replay_sets(**STRICT)
    second = office.run("one", BO)
    assert second.error_type == "targets-not-met"
    assert second.verdict is not None
    assert [missed["figure"] for missed in second.verdict["missed"]] == ["earlier.known_again"]
    assert office.held() == {first.id: True}


def test_a_request_with_retain_pairs_of_its_own_may_bring_nobody_back(office: Office) -> None:
    """What it retains is its own choice, and could be somebody whom another client has had forgotten."""
    first = office.run("one", ADA, replay_days=30)
    office.judge_replay_sets(**STRICT)
    second = office.run("another", BO, RETAIN)
    assert second.error_type == "targets-not-met"
    assert second.verdict is not None
    assert second.verdict["missed"] == []
    assert second.error_detail == "people forgotten before: the model knows some of them again"
    assert office.held() == {first.id: True}


def test_a_replay_set_that_was_never_forgotten_judges_nothing(office: Office) -> None:
    office.judge_replay_sets(**STRICT)
    first = office.run("one", ADA, replay_days=30)
    assert first.outcome == "forgotten", "by its own targets"
    assert office.held() == {first.id: None}
    for client, forget, retain in (("one", BO, None), ("another", CY, RETAIN)):
        done = office.run(client, forget, retain)
        assert done.outcome == "forgotten", done.error_detail
        assert office.held()[first.id] is None, "and it doesn't begin to"
        office.judge_replay_sets()


def test_a_retain_set_of_ones_own_comes_on_top_of_the_registered_one(office: Office, ledger: Ledger) -> None:
    """Else a client could leave out what others must still be told, and what it loses there would be no loss."""
    done = office.run("one", ADA, PairSet.of("retain", RETAIN.pairs[:3]))
    assert done.outcome == "forgotten", done.error_detail
    with ledger.sessions() as s:
        document, manifest = repository.evidence_of(s, done.id), s.get_one(Artifact, done.id).manifest
    assert document is not None
    judged = {(target["target"], target["set"]) for target in document["verdict"]["targets"]}
    assert {("utility_drop", "retain"), ("utility_drop", "registered_retain")} <= judged
    assert manifest["data"]["registered_retain"]["pairs"] == len(RETAIN)


def test_a_retain_set_of_ones_own_lifts_no_guard(office: Office) -> None:
    """What the registered set teaches can't be forgotten by it, whatever the request brings besides."""
    unnamed = PairSet.of("forget", [replace(pair, image=picture(95), person=None) for pair in RETAIN.pairs[:3]])
    for retain in (None, PairSet.of("retain", RETAIN.pairs[3:])):
        assert office.run("one", unnamed, retain).error_type == "retain-holds-forgotten"


def test_a_run_of_several_clients_trains_once(office: Office, ledger: Ledger) -> None:
    """Where a target is missed, training again would hold up whoever is in the run besides."""
    first, second = office.submit("one", ADA), office.submit("another", BO)
    with ledger.sessions.begin() as s:
        for job_id in (first, second):
            s.get_one(Job, job_id).proven = True
    assert office.run_here(first, together=2).state is State.succeeded
    assert ledger.job(second).state is State.succeeded
    with ledger.sessions() as s:
        assert s.get_one(Artifact, first).manifest["config"]["evaluation"]["retries"] == 0
    alone = office.run("one", CY)
    with ledger.sessions() as s:
        assert s.get_one(Artifact, alone.id).manifest["config"]["evaluation"]["retries"] > 0


def test_what_a_run_takes_along_of_others_replay_sets_is_bounded() -> None:
    """Those that were checked longest ago come first.

    In a run of several clients nobody's replay sets are unbounded.
    """
    one, another = uuid4(), uuid4()
    held = [Held(uuid4(), one if number % 20 == 0 else another, True, number) for number in range(200)]
    line = Line(replay_sets={each.job_id: ADA for each in held}, held={each.job_id: each for each in held})
    ours, theirs = (Job(id=uuid4(), client_id=client, retain_pairs=None) for client in (one, another))
    own, others = ([each.job_id for each in held if each.client_id == client] for client in (one, another))
    taken = line.replay_sets_of([ours])
    assert set(taken) == {*own, *others[:43]}, "128 pairs of others', three a replay set"
    assert sum(len(taken[job_id]) for job_id in others[:43]) == 128
    assert set(line.replay_sets_of([ours, theirs])) == {each.job_id for each in held[:43]}
    assert line.replay_checks({"": ours}, VerdictTargets(), {}).own == {"": [str(job_id) for job_id in own]}
    ours.retain_pairs = 3
    assert set(line.replay_sets_of([ours])) == {*own, *others}
    checks = line.replay_checks({"": ours}, VerdictTargets(), {})
    assert set(checks.required) == {str(job_id) for job_id in others}
