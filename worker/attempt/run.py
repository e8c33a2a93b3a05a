"""Runs one attempt at a job: reads the job's row, unlearns or evaluates, and writes how the attempt ended.

A new adapter goes to the attempt's own work folder, checkpoints to the job's folder. Uploads are decrypted in memory.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

from sqlalchemy.exc import OperationalError

from jobs import claims, endings, repository
from jobs.claims import MetricRow
from jobs.database import SessionFactory, make_engine, session_factory
from jobs.endings import NewArtifact
from jobs.lines import releases
from jobs.lines.releases import ParentSuperseded
from jobs.settings import Settings
from jobs.states import Kind, State
from jobs.storage.blobs import BlobMissing, FileBlobStore
from jobs.storage.crypto import DecryptionError, Keyring
from jobs.storage.input_cleanup import delete_inputs
from jobs.storage.inputs import JobInputs, open_sealed
from jobs.surroundings import errno_name, fault_of
from jobs.tables import Job, MetricStage
from vgid_core import DataError, PairSet, Phase, Progress, UnlearnError
from vgid_core.errors import AdapterForOtherBase, CheckpointUnusable
from worker.attempt.artifact_zip import write_artifact_zip
from worker.attempt.line import Line, LineKeeper
from worker.attempt.not_runnable import JobNotRunnable
from worker.attempt.specs import RequestOfRun, Run, evaluation_spec, unlearn_run
from worker.attempt.statement import sign_artifact
from worker.attempt.stored_adapter import unpack_stored
from worker.attempt_spec import AttemptSpec
from worker.checkpoint_folder import delete_checkpoint
from worker.describe import describe
from worker.exit_status import status_of

if TYPE_CHECKING:
    from vgid_core import EvaluationResult, HostModel, Metric, UnlearnResult

log = logging.getLogger(__name__)

_RETRY_SECONDS = 60.0
Result = TypeVar("Result")


class TokenLost(Exception):
    """The job was taken from this attempt, which can't write any more."""


class Attempt:
    """One attempt at a job, and at those that take part in its run. Every write to their rows carries the token.

    base: the preloaded model, if the process had one.
    """

    def __init__(self, settings: Settings, spec: AttemptSpec, base: HostModel | None) -> None:
        self._settings = settings
        self._spec = spec
        self._job_id = spec.job_id
        self._token = spec.token
        self._base = base
        self._sessions: SessionFactory = session_factory(make_engine(settings))
        self._blobs = FileBlobStore(settings.blob_dir)
        self._keeper = LineKeeper(self._sessions, self._blobs, Keyring(settings.secret_key_bytes))

    def run(self) -> None:
        """Runs the job and writes how it ended into its row. Raises TokenLost, or an unexpected error."""
        with self._sessions() as s:
            jobs = claims.jobs_of_run(s, self._job_id, self._token)
        if not jobs:
            raise TokenLost
        try:
            self._run_by_kind(jobs)
        except (UnlearnError, JobNotRunnable, DataError) as error:
            if fault_of(error) is not None:  # of the surroundings, not of the job
                raise
            code = "data-unusable" if isinstance(error, DataError) else error.code
            self._fail(code, str(error), None if error.request is None else UUID(error.request or str(self._job_id)))

    def _run_by_kind(self, jobs: Sequence[Job]) -> None:
        match jobs[0].kind:
            case Kind.unlearn:
                self._unlearn(jobs)
            case Kind.rebuild:
                self._rebuild(jobs[0])
            case Kind.evaluate:
                self._finish_evaluation(self._evaluate(jobs[0], self._spec.folder / "measured"))

    def _rebuild(self, job: Job) -> None:
        """Forgets everybody of whom there is a kit, from the base."""
        line = self._keeper.to_rebuild(job)
        if not line.kits:
            raise JobNotRunnable("no-kits", "Nothing is kept of anybody whom this model has forgotten.")
        everybody = PairSet("forget", tuple(pair for kit in line.kits.values() for pair in kit))
        request = RequestOfRun(job, JobInputs(everybody), self._spec.folder / "adapter")
        self._finish([request], line, *self._train([request], line))

    def _unlearn(self, jobs: Sequence[Job]) -> None:
        """Starts from the line's current release. If the base is another one by now, a line of its own begins."""
        requests = [RequestOfRun(job, self._read_inputs(job), self._spec.folder / f"adapter-{job.id}") for job in jobs]
        line = self._keeper.before(jobs[0].model, self._spec.folder / "start")
        try:
            trained = self._train(requests, line)
        except AdapterForOtherBase:
            log.warning("model %s has another base now, which has forgotten nobody yet", jobs[0].model)
            line = Line(marks=line.marks)
            trained = None
        self._finish(requests, line, *(trained or self._train(requests, line)))

    def _train(self, requests: Sequence[RequestOfRun], line: Line) -> tuple[Run, UnlearnResult]:
        run = unlearn_run(self._settings, requests, line, self._keeper)
        from vgid_core import unlearn
        from vgid_core.training.memory import free_memory

        try:
            base, self._base = self._base, None  # a run uses it up, and another one may follow
            return run, unlearn(run.spec, self._report, self._save_metrics, base)
        except CheckpointUnusable as error:  # for example, the model's files have changed
            # The text is logged, because a log record of the error itself would keep its frames alive.
            log.warning("job %s starts over: %s", self._job_id, str(error))
            delete_checkpoint(self._settings, self._job_id)
        # Outside of the handler: the error's frames hold the base on its device, which may have no room for two.
        free_memory()
        return run, unlearn(run.spec, self._report, self._save_metrics)

    def _evaluate(self, job: Job, folder: Path) -> EvaluationResult:
        adapter = self._unpack_adapter(job, folder)
        spec = evaluation_spec(self._settings, job, self._read_inputs(job), adapter)
        from vgid_core import evaluate_adapter

        return evaluate_adapter(spec, self._report, self._save_metrics, self._base)

    def _unpack_adapter(self, job: Job, folder: Path) -> Path | None:
        """Unpacks the adapter that the evaluation measures, and returns its folder; None for the base alone."""
        if job.adapter_of is None and job.release_id is None:
            return None
        with self._sessions() as s:
            if job.release_id is not None:
                sha256 = releases.artifact_of(s, job.release_id)
            else:
                found = repository.adapter_of(s, job.client_id, job.adapter_of) if job.adapter_of is not None else None
                sha256 = None if found is None else found.sha256
        unpack_stored(self._blobs, sha256, folder, "adapter")
        return folder

    def _read_inputs(self, job: Job) -> JobInputs:
        if job.wrapped_data_key is None:
            raise TokenLost
        try:
            key = Keyring(self._settings.secret_key_bytes).unwrap(job.wrapped_data_key, job.id)
            return open_sealed(self._blobs.read_inputs(job.id), key)
        except BlobMissing:
            detail = "The uploaded images and texts aren't there any more."
            raise JobNotRunnable("inputs-missing", detail, str(job.id)) from None
        except DecryptionError:
            detail = "The uploaded images and texts can't be decrypted."
            raise JobNotRunnable("inputs-unreadable", detail, str(job.id)) from None

    def _report(self, progress: Progress) -> None:
        if progress.phase is Phase.baseline:
            self._spec.mark_loaded()
        try:
            with self._sessions.begin() as s:
                held = claims.report(s, self._job_id, self._token, progress)
        except OperationalError as error:  # the next report repeats it, and after a long outage the lease expires
            log.warning("progress not recorded: %s", describe(error))
            return
        if not held:
            raise TokenLost

    def _save_metrics(self, stage: MetricStage, metrics: list[Metric], job_id: UUID | None = None) -> None:
        rows = [MetricRow(metric.split, metric.name, metric.value, metric.pairs) for metric in metrics]

        def save() -> bool:
            with self._sessions.begin() as s:
                return claims.save_metrics(s, job_id or self._job_id, self._token, stage, rows)

        if not _retry(save):
            raise TokenLost

    def _finish(self, requests: Sequence[RequestOfRun], line: Line, run: Run, result: UnlearnResult) -> None:
        own, *others = requests
        artifact = self._store(own, line, run, result)
        others_artifacts = {}
        for each in others:
            found = result.together[str(each.job.id)]
            self._save_metrics("before", found.metrics_before, each.job.id)
            self._save_metrics("after", found.metrics_after, each.job.id)
            others_artifacts[each.job.id] = self._store(each, line, run, found)

        def finish() -> State | None:
            with self._sessions.begin() as s:
                return endings.finish(s, self._job_id, self._token, artifact, result.stop_reason, others_artifacts)

        try:
            self._end(finish, [each.job.id for each in requests])
        except ParentSuperseded:
            self._start_over()

    def _store(self, request: RequestOfRun, line: Line, run: Run, result: UnlearnResult) -> NewArtifact:
        """Signs, packs and stores one request's artifact."""
        job, archive = request.job, self._spec.folder / f"{request.job.id}.zip"
        others = run.entries_for(request)
        manifest = _retry(lambda: sign_artifact(self._sessions, self._settings, job.id, self._token, result, others))
        files = write_artifact_zip(result.folder, archive)
        sha256, size = self._blobs.put_artifact(archive)
        evidence = None if result.evidence is None else result.evidence.as_json()
        release = self._keeper.after(job, request.inputs.forget, line, result)
        return NewArtifact(sha256, size, files, manifest, evidence, release)

    def _start_over(self) -> None:
        """Puts the job back in the queue, since its line has gone on without it. The reaper wakes a worker."""
        log.warning("job %s starts over: its release's parent isn't current any more", self._job_id)
        most = self._settings.max_attempts

        def start_over() -> bool:
            with self._sessions.begin() as s:
                state = claims.release(
                    s, self._job_id, self._token, max_attempts=most, refund=True, reason="parent_superseded"
                )
                return state is not None

        if not _retry(start_over):
            raise TokenLost
        delete_checkpoint(self._settings, self._job_id)

    def _finish_evaluation(self, result: EvaluationResult) -> None:
        def finish() -> State | None:
            with self._sessions.begin() as s:
                return endings.finish_evaluation(s, self._job_id, self._token, result.as_json())

        self._end(finish, [self._job_id])

    def _fail(self, code: str, detail: str, about: UUID | None) -> None:
        log.warning("job %s failed: %s", about or self._job_id, code)

        def fail() -> State | None:
            with self._sessions.begin() as s:
                return endings.fail(s, self._job_id, self._token, code, detail, about)

        self._end(fail, [self._job_id])

    def _end(self, write: Callable[[], State | None], jobs: Sequence[UUID]) -> None:
        """Ends the run, and deletes what is left of those of these jobs that have ended: a run can come apart."""
        state = _retry(write)
        if state is None:
            raise TokenLost
        delete_checkpoint(self._settings, self._job_id)
        for job_id in jobs:
            delete_inputs(self._sessions, self._blobs, job_id)


def run_attempt(spec: AttemptSpec, settings: Settings, base: HostModel | None) -> int:
    """Runs the attempt, with the preloaded model if there is one. Returns the process's exit status."""
    spec.mark_started()
    try:
        Attempt(settings, spec, base).run()
    except TokenLost:
        log.warning("job %s was taken from this attempt", spec.job_id)
    except Exception as error:
        fault = fault_of(error)
        if fault is None:
            log.error("job %s: %s", spec.job_id, describe(error))
            return 1
        log.error("job %s: %s (%s): %s", spec.job_id, fault, errno_name(error), describe(error))
        return status_of(fault)
    return 0


def _retry(write: Callable[[], Result]) -> Result:
    """Calls `write` and returns its result. While the database is away, calls it again for a minute."""
    deadline = monotonic() + _RETRY_SECONDS
    while True:
        try:
            return write()
        except OperationalError as error:
            if monotonic() > deadline:
                raise
            log.warning("database: %s", describe(error))
            sleep(1.0)
