"""Changes a job's state and writes the change to its history. Callers hold the lock of the job's row."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from jobs.queueing import turns
from jobs.states import ENDED, Kind, Phase, State, check_transition
from jobs.tables import Client, EventKind, Job, JobEvent

ATTEMPTS_EXHAUSTED = "attempts-exhausted"
TARGETS_NOT_MET = "targets-not-met"
NOTHING_TO_FORGET = "nothing-to-forget"
RUN_TOO_LONG = "run-too-long"

_SLUG = re.compile(r"[a-z][a-z0-9_-]{0,63}")


def require_slug(text: str) -> None:
    """Raises ValueError for what isn't a stable slug, as a history or an error may show it."""
    if not _SLUG.fullmatch(text):
        raise ValueError("must be a slug")


def database_now(s: Session) -> datetime:
    """The start of the current transaction by the database's clock, the only clock that leases go by."""
    return s.execute(select(func.now())).scalar_one()


def add_event(s: Session, job_id: UUID, kind: EventKind, data: dict[str, Any]) -> None:
    """Adds an event to the job's history. `data` must hold no personal data."""
    s.add(JobEvent(job_id=job_id, kind=kind, data=data))


def start(s: Session, job: Job, now: datetime, worker: str, token: UUID, lease_seconds: float) -> State:
    """Begins the queued job's next attempt, which `worker` holds by the token until the lease expires."""
    _hold(s, job, now, worker, token, lease_seconds)
    lead(job, now)
    use_turn(s, job, now, by_deadline=not job.goes_first)
    return State.running


def lead(job: Job, now: datetime) -> None:
    """Makes the running job its run's first one. From now on the attempt is its client's."""
    job.run_of = None
    job.leads_since = now


def led(job: Job, now: datetime) -> timedelta:
    """How long the job has led its run, in whole seconds: a claim and an end take some time of their own."""
    if job.leads_since is None:
        return timedelta(0)
    return timedelta(seconds=(now - job.leads_since) // timedelta(seconds=1))


def use_turn(s: Session, job: Job, now: datetime, *, by_deadline: bool, took: timedelta = timedelta(0)) -> None:
    """Counts a turn of the job's client, of an attempt that starts now or has ended after so long.

    by_deadline: also as an urgent one, if the job is due soon.
    """
    values = turns.moved_on(took)
    if by_deadline and turns.due_soon(job.due_at, now):
        values |= turns.counted_as_urgent()
    turn = update(Client).where(Client.id == job.client_id).values(values)
    s.execute(turn, execution_options={"synchronize_session": False})


def lock_clients(s: Session, jobs: Iterable[Job]) -> None:
    """Locks the rows of the jobs' clients in one order, so that no two transactions wait for each other.

    For whoever ends attempts of several clients at once, or chooses among the jobs of one.
    """
    clients = select(Client.id).where(Client.id.in_({job.client_id for job in jobs})).order_by(Client.id)
    s.execute(clients.with_for_update(key_share=True))


def join(s: Session, job: Job, run: Job, now: datetime, lease_seconds: float) -> State:
    """Lets the queued job take part in the run of another job that has just been claimed. It is nobody's turn."""
    if run.attempt_token is None or run.worker is None:
        raise ValueError("the other job isn't claimed")
    job.run_of = run.id
    _hold(s, job, now, run.worker, run.attempt_token, lease_seconds)
    return State.running


def _hold(s: Session, job: Job, now: datetime, worker: str, token: UUID, lease_seconds: float) -> None:
    job.state = check_transition(job.state, State.running)
    job.phase = Phase.loading
    job.attempt += 1
    job.attempt_token = token
    job.worker = worker
    job.lease_expires_at = now + timedelta(seconds=lease_seconds)
    job.started_at = job.started_at or now
    job.last_progress_at = now
    add_event(s, job.id, "state", {"state": State.running.value, "attempt": job.attempt})
    add_event(s, job.id, "phase", {"phase": Phase.loading.value, "attempt": job.attempt})


def end(s: Session, job: Job, state: State, now: datetime, **why: str) -> State:
    """Ends the job and drops its data key, so that its uploads can't be read any more. Raises IllegalTransition."""
    if state not in ENDED:
        raise ValueError(f"{state} isn't a final state")
    job.state = check_transition(job.state, state)
    job.finished_at = now
    job.wrapped_data_key = None
    _drop_claim(s, job, now)
    add_event(s, job.id, "state", {"state": state.value, "attempt": job.attempt, **why})
    return state


def end_by_verdict(s: Session, job: Job, now: datetime, evidence: Mapping[str, Any]) -> State:
    """Ends the job as its evidence's verdict says.

    Forgetting succeeds only if every target holds. An evaluation has succeeded by measuring: its outcome says the rest.
    """
    verdict = evidence["verdict"]
    missed = [target for target in verdict["targets"] if not target["held"]]
    job.outcome = verdict["outcome"]
    lacking = verdict.get("lacking", [])
    unmeasured = [*verdict["unmeasured"], *lacking]
    job.verdict = {"level": evidence["level"], "missed": missed, "unmeasured": unmeasured}
    if verdict["passed"] or job.kind is Kind.evaluate:
        return end(s, job, State.succeeded, now)
    return fail(s, job, now, TARGETS_NOT_MET, "; ".join([*map(_in_words, missed), *lacking]))


def _in_words(target: Mapping[str, Any]) -> str:
    """A missed target as a sentence, such as "generated.rouge_l of forget is .40, at most .10 above control: ..."."""
    judged = "" if target["judged"] == "value" else f" ({target['amount']:.2f} {target['judged']})"
    return (
        f"{target['figure']} of {target['set']} is {target['value']:.2f}{judged}, at most {target['limit']:.2f} is "
        f"allowed: {target['meaning']}"
    )


def fail(s: Session, job: Job, now: datetime, error_type: str, error_detail: str) -> State:
    """Ends the job as failed. A job that found nothing to forget has come to an outcome of its own by that."""
    if error_type == NOTHING_TO_FORGET:
        job.outcome = NOTHING_TO_FORGET
    job.error_type = error_type
    job.error_detail = error_detail
    return end(s, job, State.failed, now, error_type=error_type)


def requeue(s: Session, job: Job, now: datetime, reason: str, errno: str | None = None) -> State:
    """Puts the running job back in the queue. The caller wakes a worker after the commit."""
    job.state = check_transition(job.state, State.queued)
    job.run_of = None
    _drop_claim(s, job, now)
    job.step = job.total_steps = 0
    job.progress = 0.0
    job.loss_forget = job.loss_retain = job.last_progress_at = None
    why = {"reason": reason} if errno is None else {"reason": reason, "errno": errno}
    add_event(s, job.id, "state", {"state": State.queued.value, "attempt": job.attempt, **why})
    return State.queued


def requeue_or_end(
    s: Session, job: Job, now: datetime, max_attempts: int, reason: str, errno: str | None = None
) -> State:
    """Decides about a job whose attempt ended without a result, and returns its new state.

    The job is cancelled if that was requested, failed if this was its last attempt, and queued again otherwise.
    """
    if job.cancel_requested_at is not None:
        return end(s, job, State.cancelled, now)
    if job.attempt >= max_attempts:
        detail = f"Given up after {job.attempt} attempts, the last one lost to: {reason}."
        return fail(s, job, now, ATTEMPTS_EXHAUSTED, detail)
    return requeue(s, job, now, reason, errno)


def _drop_claim(s: Session, job: Job, now: datetime) -> None:
    """Ends the job's attempt, if it has one. A run is a turn of its clients, however it ends, each by its pairs.

    An attempt that is paid for already, or took no time, moves nobody's turn: a client that only took part would else
    wait as long as the one that led.
    """
    took = led(job, now)
    pairs = _pairs_of_run(s, job) if took else Counter()
    job.leads_since = None
    job.attempt_token = None
    job.lease_expires_at = None
    job.phase = None
    job.estimated_finish_at = None
    for client_id, of_client in sorted(pairs.items()):
        turn = update(Client).where(Client.id == client_id).values(turns.moved_on(took * of_client / pairs.total()))
        s.execute(turn, execution_options={"synchronize_session": False})


def _pairs_of_run(s: Session, first: Job) -> Counter[UUID]:
    """How many forget pairs each client has in the run that this job leads. Locks the clients' rows."""
    pairs = Counter({first.client_id: max(first.forget_pairs, 1)})
    riders = select(Job.client_id, Job.forget_pairs).where(Job.run_of == first.id, turns.in_state(State.running))
    with s.no_autoflush:  # the change of the first one isn't whole yet
        for client_id, of_job in s.execute(riders):
            pairs[client_id] += of_job
        clients = select(Client.id).where(Client.id.in_(pairs)).order_by(Client.id)
        s.execute(clients.with_for_update(key_share=True))
    return pairs
