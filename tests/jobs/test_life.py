"""A job under random sequences of what workers, clients, crashes and the reaper do. Invariants hold throughout."""

from __future__ import annotations

from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as examples
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import inspect

from jobs import claims, endings, repository
from jobs.queueing.queue import JobQueue
from jobs.reaping import reap
from jobs.repository import JobEnded
from jobs.settings import Settings
from jobs.states import IllegalTransition, Phase, State, check_transition
from jobs.storage.blobs import FileBlobStore
from jobs.tables import Artifact, Job
from tests.evidence import FORGOTTEN, MISSED
from tests.jobs.conftest import Ledger
from tests.lines import new_artifact
from vgid_core.progress import Progress

MAX_ATTEMPTS = 3
EXAMPLES = examples(
    max_examples=40,
    stateful_step_count=30,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
FINAL = {State.succeeded, State.failed, State.cancelled}
LEGAL = {
    (State.queued, State.running),
    (State.queued, State.cancelled),
    (State.running, State.queued),
    *((State.running, final) for final in FINAL),
}


@pytest.mark.parametrize(
    ("current", "new"),
    [
        (State.queued, State.succeeded),
        (State.queued, State.failed),
        (State.succeeded, State.running),
        (State.failed, State.queued),
        (State.cancelled, State.running),
    ],
)
def test_an_illegal_transition_raises(current: State, new: State) -> None:
    with pytest.raises(IllegalTransition) as caught:
        check_transition(current, new)
    assert (caught.value.current, caught.value.new) == (current, new)


class Life(RuleBasedStateMachine):
    """One job and all tokens it was ever claimed with. `live` is the token that should hold it now."""

    ledger: Ledger
    blobs: FileBlobStore
    queue: JobQueue
    settings: Settings

    @initialize()
    def submit(self) -> None:
        self.job_id = self.ledger.submit()
        self.tokens: list[UUID] = []
        self.live: UUID | None = None
        self.ended: dict[str, Any] | None = None

    @precondition(lambda self: self.live is None)
    @rule()
    def claim(self) -> None:
        self.try_to_claim()

    @precondition(lambda self: self.live)
    @rule()
    def claim_what_is_held(self) -> None:
        self.try_to_claim()

    @precondition(lambda self: self.tokens)
    @rule(data=st.data())
    def heartbeat(self, data: st.DataObject) -> None:
        token = self.any_token(data)
        with self.ledger.sessions.begin() as s:
            assert claims.heartbeat(s, token, 30).held == (token == self.live)

    @precondition(lambda self: self.tokens)
    @rule(data=st.data(), phase=st.sampled_from(Phase), fraction=st.floats())
    def report(self, data: st.DataObject, phase: Phase, fraction: float) -> None:
        token = self.any_token(data)
        with self.ledger.sessions.begin() as s:
            held = claims.report(s, token, Progress(phase, 1, 2, fraction))
        assert held == (token == self.live)

    @precondition(lambda self: self.tokens)
    @rule(data=st.data(), refund=st.booleans())
    def release(self, data: st.DataObject, refund: bool) -> None:
        token = self.any_token(data)
        with self.ledger.sessions.begin() as s:
            state = claims.release(s, token, max_attempts=MAX_ATTEMPTS, refund=refund, reason="crashed")
        self.gave_up(token, state)

    @precondition(lambda self: self.tokens)
    @rule(data=st.data(), evidence=st.sampled_from([None, FORGOTTEN, MISSED]))
    def finish(self, data: st.DataObject, evidence: dict[str, Any] | None) -> None:
        token = self.any_token(data)
        was_cancelled = self.row()["cancel_requested_at"] is not None
        with self.ledger.sessions.begin() as s:
            state = endings.finish(s, self.job_id, token, new_artifact(s, self.job_id, evidence))
        self.gave_up(token, state)
        if state is not None:
            by_verdict = State.failed if evidence is MISSED else State.succeeded
            assert state is (State.cancelled if was_cancelled else by_verdict)

    @precondition(lambda self: self.tokens)
    @rule(data=st.data(), error=st.sampled_from(["out-of-memory", "nothing-to-forget", None]))
    def give_up(self, data: st.DataObject, error: str | None) -> None:
        token = self.any_token(data)
        with self.ledger.sessions.begin() as s:
            why = None if error is None else (error, "It can't go on.")
            state = claims.cancelled(s, token) if why is None else endings.fail(s, token, *why)
        self.gave_up(token, state)

    @rule()
    def cancel(self) -> None:
        was = self.row()["state"]
        with self.ledger.sessions.begin() as s:
            if was in (State.succeeded, State.failed):
                with pytest.raises(JobEnded):
                    repository.request_cancel(s, self.ledger.client_id, self.job_id)
                return
            job = repository.request_cancel(s, self.ledger.client_id, self.job_id)
        assert job is not None
        assert job.state is (State.running if was is State.running else State.cancelled)

    @precondition(lambda self: self.live)
    @rule()
    def lose_the_worker(self) -> None:
        self.ledger.turn_back(self.job_id, "lease_expires_at", 60)
        reap(self.ledger.sessions, self.blobs, self.settings, self.queue)
        assert self.row()["state"] is not State.running
        self.live = None

    @rule()
    def reap(self) -> None:
        reap(self.ledger.sessions, self.blobs, self.settings, self.queue)

    @invariant()
    def invariants(self) -> None:
        row = self.row()
        states = [State(str(event["state"])) for event in self.ledger.history(self.job_id)]
        # at most one token holds the job, exactly while it runs
        assert row["attempt_token"] == self.live
        assert (row["state"] is State.running) == (self.live is not None)
        # attempts stay within the limit
        assert 0 <= row["attempt"] <= MAX_ATTEMPTS
        # the row has a key exactly until the job has ended
        assert (row["wrapped_data_key"] is None) == (row["state"] in FINAL)
        self.the_outcome_fits_the_end(row)
        # the history holds legal transitions only, and ends in the present state
        assert states[0] is State.queued
        assert states[-1] is row["state"]
        assert LEGAL.issuperset(pairwise(states))
        self.superseded_attempts_are_powerless()
        self.an_ended_job_never_changes(row)

    def the_outcome_fits_the_end(self, row: dict[str, Any]) -> None:
        """A job succeeds by a verdict that passes, or by none. An adapter is there exactly if it wasn't given up."""
        outcome, state, error = row["outcome"], row["state"], row["error_type"]
        assert outcome in (None, "forgotten", "targets-not-met", "nothing-to-forget")
        assert (outcome == "forgotten") <= (state is State.succeeded)
        assert (state is State.succeeded) <= (outcome in (None, "forgotten"))
        assert (outcome in ("targets-not-met", "nothing-to-forget")) == (outcome is not None and outcome == error)
        assert (row["verdict"] is not None) == (outcome in ("forgotten", "targets-not-met"))
        with self.ledger.sessions.begin() as s:
            artifact = s.get(Artifact, self.job_id)
            stored = repository.evidence_of(s, self.job_id)
        assert (artifact is not None) == (state is State.succeeded or outcome == "targets-not-met")
        assert (stored is not None) == (row["verdict"] is not None)

    def superseded_attempts_are_powerless(self) -> None:
        with self.ledger.sessions.begin() as s:
            for token in self.tokens:
                if token != self.live:
                    assert not claims.heartbeat(s, token, 30).held
                    assert not claims.report(s, token, Progress(Phase.packaging))

    def an_ended_job_never_changes(self, row: dict[str, Any]) -> None:
        del row["inputs_deleted_at"], row["updated_at"]  # the reaper still writes these
        if self.ended is not None:
            assert row == self.ended
        elif row["state"] in FINAL:
            self.ended = row

    def try_to_claim(self) -> None:
        was = self.row()["state"]
        with self.ledger.sessions.begin() as s:
            claim = claims.claim(s, self.job_id, "worker", 30)
        assert (claim is not None) == (was is State.queued)
        if claim is not None:
            assert claim.token not in self.tokens
            self.live = claim.token
            self.tokens.append(claim.token)

    def gave_up(self, token: UUID, state: State | None) -> None:
        assert (state is not None) == (token == self.live)
        if state is not None:
            assert state is self.row()["state"]
            self.live = None

    def any_token(self, data: st.DataObject) -> UUID:
        """A token, often the live one, since only that one changes the job."""
        return data.draw(st.sampled_from([*self.tokens, self.live or self.tokens[-1]]))

    def row(self) -> dict[str, Any]:
        job = self.ledger.job(self.job_id)
        return {column.key: getattr(job, column.key) for column in inspect(Job).column_attrs}


def test_any_sequence_keeps_the_invariants(
    ledger: Ledger, blobs: FileBlobStore, queue: JobQueue, settings: Settings
) -> None:
    services = {"ledger": ledger, "blobs": blobs, "queue": queue, "settings": settings}
    life = type("LifeOnThisLedger", (Life,), services)
    run_state_machine_as_test(life, settings=EXAMPLES)
