"""Runs one attempt at a job: reads the job's row, unlearns or evaluates, and writes how the attempt ended.

A new adapter goes to the attempt's own work folder, checkpoints to the job's folder. Uploads are decrypted in memory.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from sqlalchemy.exc import OperationalError

from jobs import claims, endings
from jobs.claims import MetricRow
from jobs.database import SessionFactory, make_engine, session_factory
from jobs.endings import NewArtifact
from jobs.lines.releases import ParentSuperseded, ReleaseZip
from jobs.parting import Refusal
from jobs.settings import Settings
from jobs.states import Kind, State
from jobs.storage.blobs import BlobMissing, FileBlobStore
from jobs.storage.crypto import DecryptionError, Keyring
from jobs.storage.input_cleanup import delete_inputs
from jobs.storage.inputs import JobInputs, open_sealed
from jobs.surroundings import sign_of
from jobs.tables import Job, MetricStage
from vgid_core import DataError, PairSet, Phase, Progress, UnlearnError
from vgid_core.errors import AdapterForOtherBase, CheckpointUnusable, RequestsRefused
from worker.attempt.artifact_zip import write_artifact_zip
from worker.attempt.line import Line, LineKeeper
from worker.attempt.not_runnable import JobNotRunnable
from worker.attempt.refused import refusal_of, refusals_of
from worker.attempt.release_folder import pack_release
from worker.attempt.specs import RequestOfRun, Run, evaluation_spec, unlearn_run
from worker.attempt.statement import sign_artifact
from worker.attempt.stored_adapter import unpack_measured
from worker.attempt.waiting import once_it_can_be_stored, once_the_database_answers
from worker.attempt_spec import AttemptSpec
from worker.checkpoint_folder import delete_checkpoint
from worker.describe import describe
from worker.exit_status import status_of

if TYPE_CHECKING:
    from vgid_core import EvaluationResult, HostModel, Metric, UnlearnResult

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class TokenLost(Exception):
    """The job was taken from this attempt, which can't write any more."""


class Attempt:
    """One attempt at a job, and at those that take part in its run. Every write to their rows carries the token.

    Jobs that can't be run are set apart, and the others go on, whether or not the job that was claimed is among them.
    base: the preloaded model, if the process had one.
    """

    def __init__(self, settings: Settings, spec: AttemptSpec, base: HostModel | None) -> None:
        self._settings = settings
        self._spec = spec
        self._job_id = spec.job_id
        self._token = spec.token
        self._base = base
        self._progress = Progress(Phase.loading)
        self._sessions: SessionFactory = session_factory(make_engine(settings))
        self._blobs = FileBlobStore(settings.blob_dir)
        self._keeper = LineKeeper(self._sessions, self._blobs, Keyring(settings.secret_key_bytes))

    def run(self) -> None:
        """Runs the job and writes how it ended into its row. Raises TokenLost, or an unexpected error."""
        with self._sessions() as s:
            jobs = claims.jobs_of_run(s, self._token)
        if not jobs:
            raise TokenLost
        try:
            self._run_by_kind(jobs)
        except (UnlearnError, JobNotRunnable, DataError) as error:
            if sign_of(error) is not None:  # of the surroundings, not of the job
                raise
            self._fail(refusal_of(error))

    def _run_by_kind(self, jobs: Sequence[Job]) -> None:
        match jobs[0].kind:
            case Kind.unlearn:
                self._unlearn(jobs)
            case Kind.rebuild:
                self._rebuild(jobs[0])
            case Kind.evaluate:
                self._finish_evaluation(self._evaluate(jobs[0], self._spec.folder / "measured"))

    def _rebuild(self, job: Job) -> None:
        """Forgets everybody of whom there is a replay set, from the base."""
        line = self._keeper.to_rebuild(job)
        if not line.replay_sets:
            raise JobNotRunnable("no-replay-sets", "Nothing is kept of anybody whom this model has forgotten.")
        everybody = PairSet("forget", tuple(pair for replay_set in line.replay_sets.values() for pair in replay_set))
        request = RequestOfRun(job, JobInputs(everybody), self._spec.folder / "adapter")
        self._finish([request], line, *self._train([request], line))

    def _unlearn(self, jobs: Sequence[Job]) -> None:
        """Starts from the line's current release. If the base is another one by now, a line of its own begins."""
        requests = self._read_requests(jobs)
        line = self._keeper.before(jobs[0], self._spec.folder / "start")
        while requests:
            refused: dict[UUID, Refusal] = {}
            try:
                run, result = self._train(requests, line)
            except AdapterForOtherBase:
                log.warning("model %s has another base now, which has forgotten nobody yet", jobs[0].model)
                line = Line(marks=line.marks)
            except RequestsRefused as error:
                refused = refusals_of(error, self._job_id)
            else:
                self._finish(requests, line, run, result)
                return
            _free_memory()
            requests = self._set_apart(requests, refused)

    def _read_requests(self, jobs: Sequence[Job]) -> list[RequestOfRun]:
        """The run's requests. Those whose uploads can't be read are set apart."""
        requests, refused = [], {}
        for job in jobs:
            try:
                requests.append(RequestOfRun(job, self._read_inputs(job), self._spec.folder / f"adapter-{job.id}"))
            except JobNotRunnable as error:
                refused[job.id] = refusal_of(error)
        return self._set_apart(requests, refused)

    def _set_apart(self, requests: Sequence[RequestOfRun], refused: Mapping[UUID, Refusal]) -> list[RequestOfRun]:
        """Ends the refused jobs, and returns the requests that go on, the run's first one first."""
        if not refused:
            return list(requests)

        def refuse() -> list[UUID] | None:
            with self._sessions.begin() as s:
                return endings.refuse(s, self._token, refused)

        left = once_the_database_answers(refuse)
        if left is None:
            raise TokenLost
        for job_id, why in refused.items():
            log.warning("job %s failed: %s", job_id, why.error_type)
            delete_checkpoint(self._settings, job_id)
            delete_inputs(self._sessions, self._blobs, job_id)
        self._job_id = next(iter(left), self._job_id)
        of_job = {request.job.id: request for request in requests}
        return [of_job[job_id] for job_id in left]

    def _train(self, requests: Sequence[RequestOfRun], line: Line) -> tuple[Run, UnlearnResult]:
        run = unlearn_run(self._settings, requests, line, self._keeper)
        from vgid_core import unlearn

        try:
            base, self._base = self._base, None  # a run uses it up, and another one may follow
            return run, unlearn(run.spec, self._report, self._save_metrics, base)
        except CheckpointUnusable as error:  # for example, the model's files have changed
            # The text is logged, because a log record of the error itself would keep its frames alive.
            log.warning("job %s starts over: %s", self._job_id, str(error))
            delete_checkpoint(self._settings, self._job_id)
        _free_memory()
        return run, unlearn(run.spec, self._report, self._save_metrics)

    def _evaluate(self, job: Job, folder: Path) -> EvaluationResult:
        adapter = unpack_measured(self._sessions, self._blobs, job, folder)
        spec = evaluation_spec(self._settings, job, self._read_inputs(job), adapter, self._keeper)
        from vgid_core import evaluate_adapter

        return evaluate_adapter(spec, self._report, self._save_metrics, self._base)

    def _read_inputs(self, job: Job) -> JobInputs:
        if job.wrapped_data_key is None:
            raise TokenLost
        try:
            key = Keyring(self._settings.secret_key_bytes).unwrap(job.wrapped_data_key, job.id)
            return open_sealed(self._blobs.read_inputs(job.id), key)
        except BlobMissing:
            detail = "The uploaded images and texts aren't there any more."
            raise JobNotRunnable("inputs-missing", detail) from None
        except DecryptionError:
            detail = "The uploaded images and texts can't be decrypted."
            raise JobNotRunnable("inputs-unreadable", detail) from None

    def _report(self, progress: Progress) -> None:
        if progress.phase is Phase.baseline:
            self._spec.mark_loaded()
        self._progress = progress
        try:
            with self._sessions.begin() as s:
                held = claims.report(s, self._token, progress)
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

        if not once_the_database_answers(save):
            raise TokenLost

    def _finish(self, requests: Sequence[RequestOfRun], line: Line, run: Run, result: UnlearnResult) -> None:
        own, *others = requests
        archive = self._release_zip([result, *result.together.values()])
        artifact = self._store(own, line, run, result, archive)
        others_artifacts = {}
        for each in others:
            found = result.together[str(each.job.id)]
            self._save_metrics("before", found.metrics_before, each.job.id)
            self._save_metrics("after", found.metrics_after, each.job.id)
            others_artifacts[each.job.id] = self._store(each, line, run, found)

        def finish() -> State | None:
            with self._sessions.begin() as s:
                return endings.finish(s, self._job_id, self._token, artifact, others_artifacts)

        try:
            self._end(finish, [each.job.id for each in requests])
        except ParentSuperseded:
            self._start_over()

    def _release_zip(self, results: Sequence[UnlearnResult]) -> ReleaseZip | None:
        """Stores what is handed out of the run's release. None if it won't be one to serve."""
        folder = self._spec.folder / "release"

        def pack() -> Path | None:
            return pack_release(self._sessions, self._settings, results, folder)

        packed = self._store_once(lambda: once_the_database_answers(pack))
        if packed is None:
            return None
        return ReleaseZip(*self._store_once(lambda: self._blobs.put_artifact(packed)))

    def _store(
        self, request: RequestOfRun, line: Line, run: Run, result: UnlearnResult, release: ReleaseZip | None = None
    ) -> NewArtifact:
        """Signs, packs and stores one request's artifact."""
        job, archive = request.job, self._spec.folder / f"{request.job.id}.zip"

        def sign() -> dict[str, Any]:
            return sign_artifact(self._sessions, self._settings, job.id, self._token, result)

        manifest = self._store_once(lambda: once_the_database_answers(sign))
        files = self._store_once(lambda: write_artifact_zip(result.folder, archive))
        sha256, size = self._store_once(lambda: self._blobs.put_artifact(archive))
        evidence = None if result.evidence is None else result.evidence.as_json()
        new = self._store_once(lambda: self._keeper.after(job, request.inputs.forget, line, run.registered, result))
        return NewArtifact(sha256, size, files, manifest, evidence, replace(new, archive=release))

    def _store_once(self, write: Callable[[], Result]) -> Result:
        """Waits with the write while it isn't possible, and reports that the attempt goes on."""
        return once_it_can_be_stored(write, self._settings.result_seconds, lambda: self._report(self._progress))

    def _start_over(self) -> None:
        """Puts the job back in the queue, since its line has gone on without it. The reaper wakes a worker."""
        log.warning("job %s starts over: its release's parent isn't current any more", self._job_id)
        most = self._settings.max_attempts

        def start_over() -> bool:
            with self._sessions.begin() as s:
                reason = "parent_superseded"
                return claims.release(s, self._token, max_attempts=most, refund=True, reason=reason) is not None

        if not once_the_database_answers(start_over):
            raise TokenLost
        delete_checkpoint(self._settings, self._job_id)

    def _finish_evaluation(self, result: EvaluationResult) -> None:
        def finish() -> State | None:
            with self._sessions.begin() as s:
                return endings.finish_evaluation(s, self._job_id, self._token, result.as_json())

        self._end(finish, [self._job_id])

    def _fail(self, why: Refusal) -> None:
        log.warning("job %s failed: %s", self._job_id, why.error_type)

        def fail() -> State | None:
            with self._sessions.begin() as s:
                return endings.fail(s, self._token, *why)

        self._end(fail, [self._job_id])

    def _end(self, write: Callable[[], State | None], jobs: Sequence[UUID]) -> None:
        """Ends the run, and deletes what is left of those of these jobs that have ended: a run can come apart."""
        state = once_the_database_answers(write)
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
        sign = sign_of(error)
        if sign is None:
            log.error("job %s: %s", spec.job_id, describe(error))
            return 1
        log.error("job %s: %s: %s", spec.job_id, sign, describe(error))
        return status_of(sign)
    return 0


def _free_memory() -> None:
    """Call it outside of a handler: an error's frames hold the base on its device, which may have no room for two."""
    from vgid_core.training.memory import free_memory

    free_memory()
