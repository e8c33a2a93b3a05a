"""Runs of several requests under random sequences of what workers, clients and crashes do."""

from __future__ import annotations

from collections import Counter
from uuid import UUID, uuid4

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from jobs import claims, endings, repository
from jobs.claims import Claim
from jobs.lines import releases
from jobs.queueing.queue import JobQueue
from jobs.reaping import reap
from jobs.settings import Settings
from jobs.states import ENDED, State
from jobs.storage.blobs import FileBlobStore
from jobs.tables import Job
from tests.evidence import FORGOTTEN, MISSED
from tests.jobs.conftest import Ledger
from tests.jobs.test_life import EXAMPLES, MAX_ATTEMPTS
from tests.jobs.test_together import claim_next, finish, run_of


class Runs(RuleBasedStateMachine):
    """Five requests for one model, in runs of up to three. `live` is the run that goes on now."""

    ledger: Ledger
    blobs: FileBlobStore
    queue: JobQueue
    settings: Settings

    @initialize()
    def submit(self) -> None:
        model = uuid4().hex
        self.jobs = [self.ledger.submit(model=model) for _ in range(5)]
        self.live: Claim | None = None
        self.ended: dict[UUID, State] = {}

    def teardown(self) -> None:
        """Leaves no open job for the next example."""
        with self.ledger.sessions.begin() as s:
            for job_id in self.jobs:
                if self.ledger.job(job_id).state not in ENDED:
                    repository.request_cancel(s, self.ledger.client_id, job_id)
        if self.live is not None:
            with self.ledger.sessions.begin() as s:
                claims.cancelled(s, self.live.token)

    @precondition(lambda self: self.live is None)
    @rule()
    def claim(self) -> None:
        left = [job_id for job_id in self.jobs if job_id not in self.ended]
        self.live = claim_next(self.ledger, most=3)
        assert (self.live is not None) == bool(left)

    @precondition(lambda self: self.live)
    @rule(missed=st.sets(st.integers(0, 2)))
    def finish(self, missed: set[int]) -> None:
        assert self.live is not None
        run = run_of(self.ledger, self.live)
        found = {job_id: MISSED if number in missed else FORGOTTEN for number, job_id in enumerate(run)}
        finish(self.ledger, self.live, found)
        self.live = None

    @precondition(lambda self: self.live)
    @rule(refund=st.booleans())
    def release(self, refund: bool) -> None:
        assert self.live is not None
        with self.ledger.sessions.begin() as s:
            claims.release(s, self.live.token, max_attempts=MAX_ATTEMPTS, refund=refund, reason="crashed")
        self.live = None

    @precondition(lambda self: self.live)
    @rule(about=st.sampled_from([None, 0, 1, 2]))
    def fail(self, about: int | None) -> None:
        assert self.live is not None
        run = run_of(self.ledger, self.live)
        whose = None if about is None else run[about % len(run)]
        with self.ledger.sessions.begin() as s:
            endings.fail(s, self.live.token, "data-unusable", "It can't be used.", whose)
        self.live = None

    @rule(number=st.integers(0, 4))
    def cancel(self, number: int) -> None:
        with self.ledger.sessions.begin() as s:
            if self.ledger.job(self.jobs[number]).state not in ENDED:
                repository.request_cancel(s, self.ledger.client_id, self.jobs[number])

    @precondition(lambda self: self.live)
    @rule()
    def stop_what_is_cancelled(self) -> None:
        assert self.live is not None
        with self.ledger.sessions.begin() as s:
            if claims.heartbeat(s, self.live.token, 30).cancel_requested:
                claims.cancelled(s, self.live.token)
                self.live = None

    @precondition(lambda self: self.live)
    @rule()
    def lose_the_worker(self) -> None:
        assert self.live is not None
        for job_id in run_of(self.ledger, self.live):
            self.ledger.turn_back(job_id, "lease_expires_at", 60)
        reap(self.ledger.sessions, self.blobs, self.settings, self.queue)
        self.live = None

    @invariant()
    def the_run_and_its_jobs_agree(self) -> None:
        jobs = [self.ledger.job(job_id) for job_id in self.jobs]
        running = [job for job in jobs if job.state is State.running]
        # one run, and one token, and everybody who runs takes part in it
        assert {job.attempt_token for job in running} == ({self.live.token} if self.live is not None else set())
        assert all((job.run_of is None) == (job.id == self.live.job.id) for job in running if self.live is not None)
        # who runs alone does
        assert not any(job.runs_alone for job in running) or len(running) == 1
        for job in jobs:
            assert (job.wrapped_data_key is None) == (job.state in ENDED)
            assert 0 <= job.attempt <= MAX_ATTEMPTS
            if job.state in ENDED:
                assert self.ended.setdefault(job.id, job.state) is job.state
        self.the_release_holds_who_succeeded(jobs)

    def the_release_holds_who_succeeded(self, jobs: list[Job]) -> None:
        with self.ledger.sessions.begin() as s:
            current = releases.current(s, jobs[0].model)
            held = Counter() if current is None else Counter(row.job_id for row in releases.jobs_of(s, current.id))
        assert held == Counter(job.id for job in jobs if job.state is State.succeeded)


def test_any_sequence_keeps_the_invariants(
    ledger: Ledger, blobs: FileBlobStore, queue: JobQueue, settings: Settings
) -> None:
    services = {"ledger": ledger, "blobs": blobs, "queue": queue, "settings": settings}
    run_state_machine_as_test(type("RunsOnThisLedger", (Runs,), services), settings=EXAMPLES)
