"""Runs of several requests, an honest client's beside those of junk clients, under random sequences of what all do."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
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
from sqlalchemy import text

from jobs import claims, endings, repository
from jobs.claims import Claim
from jobs.lines import releases
from jobs.parting import Refusal
from jobs.queueing.queue import JobQueue
from jobs.reaping import reap
from jobs.settings import Settings
from jobs.states import ENDED, Phase, State
from jobs.storage.blobs import FileBlobStore
from jobs.tables import Job
from jobs.transitions import RUN_TOO_LONG
from tests.evidence import DROPPED, FORGOTTEN, MISSED
from tests.jobs.conftest import Ledger
from tests.jobs.test_life import EXAMPLES, MAX_ATTEMPTS
from tests.jobs.test_together import claim_next, finish, held_by
from tests.jobs.test_turns import client_with, time_passes
from vgid_core.progress import Progress

RUN = 3  # requests of a run
SHORT, LONG = 100, 880  # seconds that an attempt takes
# Each of two junk clients has a turn and an urgent job, and by each of these puts one of the other's jobs first. And
# they run as long as the honest client's last attempt took.
MOST_PASSED = (2 * 2 * 2 + 1) * LONG
LENGTHS = st.sampled_from([SHORT, LONG])
REFUSED = Refusal("nothing-to-forget", "The model doesn't know these answers.")


class Nature(StrEnum):
    """What becomes of a request when it is run."""

    good = "good"
    unknown = "unknown"  # a guard refuses it
    misses = "misses"  # it is trained on, and misses a target
    drops = "falls"  # it is trained on, and misses what all requests of the run share

    @property
    def evidence(self) -> dict[str, Any]:
        """What is measured of it."""
        return {"misses": MISSED, "drops": DROPPED}.get(self, FORGOTTEN)


class Runs(RuleBasedStateMachine):
    """Requests for one model: of an honest client, whose requests are good, and of two others. `live` is the run."""

    ledger: Ledger
    blobs: FileBlobStore
    queue: JobQueue
    settings: Settings

    @initialize()
    def start(self) -> None:
        with self.ledger.sessions.begin() as s:
            s.execute(text("TRUNCATE clients, jobs CASCADE"))
        self.model = uuid4().hex
        self.honest = self.ledger.new_client()
        self.others = [client_with(self.ledger, urgent=1) for _ in range(2)]
        self.jobs: dict[UUID, Nature] = {}
        self.owner: dict[UUID, UUID] = {}
        self.live: Claim | None = None
        self.trained = False
        self.ended: dict[UUID, State] = {}
        self.broken: Counter[UUID] = Counter()  # how often a run of others was taken apart, by job
        self.passed = 0  # seconds of others' runs since the honest client's last start, while a started job of it waits
        self.first_passed: dict[UUID, list[UUID]] = {}  # what has started before an honest job that goes first
        self.submit_honest()

    @precondition(lambda self: len(self.jobs) < 12)
    @rule()
    def submit_honest(self) -> None:
        self.add(self.honest, Nature.good, None)

    @precondition(lambda self: len(self.jobs) < 12)
    @rule(other=st.integers(0, 1), nature=st.sampled_from(Nature), urgent=st.booleans())
    def submit_another(self, other: int, nature: Nature, urgent: bool) -> None:
        self.add(self.others[other], nature, datetime.now(UTC) + timedelta(hours=1) if urgent else None)

    def add(self, client_id: UUID, nature: Nature, due_at: datetime | None) -> None:
        job_id = self.ledger.submit(client_id, model=self.model, due_at=due_at)
        self.jobs[job_id], self.owner[job_id] = nature, client_id

    @precondition(lambda self: self.live is None)
    @rule()
    def claim(self) -> None:
        before = {job_id: self.ledger.job(job_id) for job_id in self.jobs}
        self.live, self.trained = claim_next(self.ledger, most=RUN), False
        assert (self.live is not None) == any(job.state is State.queued for job in before.values())
        if self.live is None:
            return
        run = self.run
        unproven = Counter(self.owner[job_id] for job_id in run if not before[job_id].proven)
        assert len({self.owner[job_id] for job_id in run}) == 1 or max(unproven.values(), default=0) <= 1
        self.look_who_goes_first(before, run)
        if any(self.owner[job_id] == self.honest for job_id in run):
            self.passed = 0

    def look_who_goes_first(self, before: dict[UUID, Job], run: list[UUID]) -> None:
        """Before an honest job that goes first only others start that do, one of each client."""
        for job_id, job in before.items():
            if self.owner[job_id] != self.honest or not (job.state is State.queued and job.goes_first):
                continue
            if job_id in run:
                self.first_passed.pop(job_id, None)
                continue
            assert [before[other].goes_first for other in run] == [True]
            passed = self.first_passed.setdefault(job_id, [])
            passed += [other for other in run if other not in passed]
            assert max(Counter(self.owner[other] for other in passed).values()) <= 1

    @property
    def run(self) -> list[UUID]:
        assert self.live is not None
        return held_by(self.ledger, self.live.token)

    def over(self, run: list[UUID], seconds: int = 0, *, counted: bool = True) -> None:
        """The run has ended, after so long. counted: not by a worker that stopped."""
        self.live = None
        if not counted:
            return
        waiting = {job_id: self.ledger.job(job_id) for job_id in self.jobs if self.owner[job_id] == self.honest}
        waiting = {job_id: job for job_id, job in waiting.items() if job.state is State.queued and job.started_at}
        for job_id in run:
            if len({self.owner[each] for each in run}) > 1 and self.ledger.job(job_id).state is State.queued:
                self.broken[job_id] += 1
        if waiting and all(self.owner[job_id] != self.honest for job_id in run):
            self.passed += seconds

    @precondition(lambda self: self.live and not self.trained)
    @rule(seconds=LENGTHS)
    def pass_the_guards(self, seconds: int) -> None:
        """What can't be run is set apart at once, and training starts with the others."""
        assert self.live is not None
        time_passes(self.ledger, seconds)
        refused = [job_id for job_id in self.run if self.jobs[job_id] is Nature.unknown]
        left, run = self.run, self.run
        if refused:
            with self.ledger.sessions.begin() as s:
                left = endings.refuse(s, self.live.token, dict.fromkeys(refused, REFUSED)) or []
        assert left == [job_id for job_id in run if job_id not in refused]
        if not left:
            self.over(run, seconds)
            return
        with self.ledger.sessions.begin() as s:
            assert claims.report(s, self.live.token, Progress(Phase.distilling))
        assert all(self.ledger.job(job_id).proven for job_id in self.run)
        self.trained = True

    @precondition(lambda self: self.live and self.trained)
    @rule(seconds=LENGTHS)
    def finish(self, seconds: int) -> None:
        assert self.live is not None
        run = self.run
        time_passes(self.ledger, seconds)
        finish(self.ledger, self.live, {job_id: self.jobs[job_id].evidence for job_id in run})
        self.over(run, seconds)

    @precondition(lambda self: self.live)
    @rule(refund=st.booleans(), seconds=LENGTHS)
    def release(self, refund: bool, seconds: int) -> None:
        assert self.live is not None
        run = self.run
        time_passes(self.ledger, seconds)
        with self.ledger.sessions.begin() as s:
            claims.release(s, self.live.token, max_attempts=MAX_ATTEMPTS, refund=refund, reason="crashed")
        self.over(run, seconds, counted=not refund)

    @precondition(lambda self: self.live)
    @rule(seconds=LENGTHS, slug=st.sampled_from(["training-diverged", RUN_TOO_LONG]))
    def fail(self, seconds: int, slug: str) -> None:
        assert self.live is not None
        run = self.run
        time_passes(self.ledger, seconds)
        with self.ledger.sessions.begin() as s:
            endings.fail(s, self.live.token, slug, "Nobody knows by whom.")
        self.over(run, seconds)

    @rule(number=st.integers(0, 11))
    def cancel(self, number: int) -> None:
        """A client's own job, of those that aren't the honest one's."""
        theirs = [job_id for job_id in self.jobs if self.owner[job_id] != self.honest and job_id not in self.ended]
        if theirs:
            job_id = theirs[number % len(theirs)]
            with self.ledger.sessions.begin() as s:
                repository.request_cancel(s, self.owner[job_id], job_id)

    @precondition(lambda self: self.live)
    @rule(seconds=LENGTHS, refused_meanwhile=st.booleans())
    def stop_what_is_cancelled(self, seconds: int, refused_meanwhile: bool) -> None:
        """refused_meanwhile: the guards' refusals are written after the worker has decided to stop the run."""
        assert self.live is not None
        run = self.run
        time_passes(self.ledger, seconds)
        with self.ledger.sessions.begin() as s:
            cancelled = claims.heartbeat(s, self.live.token, 30).cancel_requested
        if not cancelled:
            return
        refused = [job_id for job_id in run if self.jobs[job_id] is Nature.unknown]
        with self.ledger.sessions.begin() as s:
            if refused and refused_meanwhile and not self.trained:
                endings.refuse(s, self.live.token, dict.fromkeys(refused, REFUSED))
        with self.ledger.sessions.begin() as s:
            claims.cancelled(s, self.live.token)
        self.over(run, seconds)

    @precondition(lambda self: self.live)
    @rule(seconds=LENGTHS)
    def lose_the_worker(self, seconds: int) -> None:
        run = self.run
        time_passes(self.ledger, seconds)
        for job_id in run:
            self.ledger.turn_back(job_id, "lease_expires_at", 60)
        reap(self.ledger.sessions, self.blobs, self.settings, self.queue)
        self.over(run, seconds)

    @invariant()
    def nobody_is_held_up(self) -> None:
        assert self.passed <= MOST_PASSED
        # once broken, a job runs alone; before, only a run that its own client broke may have come apart
        assert all(count <= 1 for job_id, count in self.broken.items() if self.owner[job_id] == self.honest)

    @invariant()
    def the_run_and_its_jobs_agree(self) -> None:
        jobs = [self.ledger.job(job_id) for job_id in self.jobs]
        running = [job for job in jobs if job.state is State.running]
        # one run, one token and one first job, and everybody who runs takes part in it
        assert {job.attempt_token for job in running} == ({self.live.token} if self.live is not None else set())
        firsts = [job.id for job in running if job.run_of is None]
        assert len(firsts) == bool(running)
        assert all(job.run_of in (None, firsts[0]) for job in running)
        # who runs alone does
        assert not any(job.runs_alone for job in running) or len(running) == 1
        # nobody is cancelled who hasn't asked for it
        assert all(job.cancel_requested_at for job in jobs if job.state is State.cancelled)
        for job in jobs:
            assert (job.wrapped_data_key is None) == (job.state in ENDED)
            assert 0 <= job.attempt <= MAX_ATTEMPTS
            assert job.runs_alone or not job.goes_first
            if job.state in ENDED:
                assert self.ended.setdefault(job.id, job.state) is job.state
        self.the_release_holds_who_succeeded(jobs)

    def the_release_holds_who_succeeded(self, jobs: list[Job]) -> None:
        with self.ledger.sessions.begin() as s:
            current = releases.current(s, self.model)
            held = Counter() if current is None else Counter(row.job_id for row in releases.held_by(s, current.id))
        assert held == Counter(job.id for job in jobs if job.state is State.succeeded)

    def teardown(self) -> None:
        """Every job that has ended has done so once."""
        for job_id in getattr(self, "ended", {}):
            states = Counter(event["state"] for event in self.ledger.history(job_id))
            assert sum(states[state.value] for state in ENDED) == 1


def test_any_sequence_keeps_the_invariants(
    ledger: Ledger, blobs: FileBlobStore, queue: JobQueue, settings: Settings
) -> None:
    services = {"ledger": ledger, "blobs": blobs, "queue": queue, "settings": settings}
    run_state_machine_as_test(type("RunsOnThisLedger", (Runs,), services), settings=EXAMPLES)
