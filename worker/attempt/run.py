"""Runs one attempt at a job: reads the job's row, unlearns, stores the artifact, and writes how the attempt ended.

The adapter goes to the attempt's own work folder, checkpoints to the job's folder. Uploads are decrypted in memory.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy.exc import OperationalError

from jobs import claims
from jobs.catalog import Catalog, ModelEntry, RetainSet
from jobs.claims import MetricRow, NewArtifact
from jobs.database import SessionFactory, make_engine, session_factory
from jobs.settings import Settings
from jobs.storage.blobs import BlobMissing, FileBlobStore
from jobs.storage.crypto import DecryptionError, Keyring
from jobs.storage.input_cleanup import delete_inputs
from jobs.storage.inputs import JobInputs, open_sealed
from jobs.surroundings import errno_name, fault_of
from jobs.tables import Job, MetricStage
from vgid_core import DataError, PairSet, Phase, PhotoSet, Progress, UnlearnConfig, UnlearnError
from vgid_core.errors import CheckpointUnusable
from worker.attempt.artifact_zip import write_artifact_zip
from worker.attempt.statement import sign_artifact
from worker.attempt_spec import AttemptSpec
from worker.checkpoint_folder import checkpoint_folder, delete_checkpoint
from worker.describe import describe
from worker.exit_status import status_of

if TYPE_CHECKING:
    from vgid_core import HostModel, Metric, UnlearnResult, UnlearnSpec

log = logging.getLogger(__name__)

_RETRY_SECONDS = 60.0
Result = TypeVar("Result")


class TokenLost(Exception):
    """The job was taken from this attempt, which can't write any more."""


class JobNotRunnable(Exception):
    """No attempt can run the job here. `code` is a slug. The message holds no personal data."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class Attempt:
    """One attempt at a job. Every write to the job's row carries the attempt's token.

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

    def run(self) -> None:
        """Runs the job and writes how it ended into its row. Raises TokenLost, or an unexpected error."""
        try:
            result = self._unlearn(self._spec.folder / "adapter")
            self._finish(result, self._spec.folder / "artifact.zip")
        except (UnlearnError, JobNotRunnable, DataError) as error:
            if fault_of(error) is not None:  # of the surroundings, not of the job
                raise
            self._fail("data-unusable" if isinstance(error, DataError) else error.code, str(error))

    def _unlearn(self, out: Path) -> UnlearnResult:
        with self._sessions() as s:
            job = claims.held_job(s, self._job_id, self._token)
        if job is None:
            raise TokenLost
        spec = self._unlearn_spec(job, out)
        from vgid_core import unlearn
        from vgid_core.training.memory import free_memory

        try:
            return unlearn(spec, self._report, self._save_metrics, self._base)
        except CheckpointUnusable as error:  # for example, the model's files have changed
            # The text is logged, because a log record of the error itself would keep its frames alive.
            log.warning("job %s starts over: %s", self._job_id, str(error))
            delete_checkpoint(self._job_id)
        # Outside of the handler: the error's frames hold the base on its device, which may have no room for two.
        free_memory()
        return unlearn(spec, self._report, self._save_metrics)

    def _unlearn_spec(self, job: Job, out: Path) -> UnlearnSpec:
        model = Catalog.load(self._settings.catalog).model(job.model)
        if model is None:
            raise JobNotRunnable("model-unavailable", "The model isn't in this worker's catalog any more.")
        inputs, registered = self._read_inputs(job), _registered_retain_set(model, job)
        retain = inputs.retain
        if retain is None and registered is not None:
            retain = PairSet.from_jsonl(registered.retain, "retain")
        if retain is None:
            raise JobNotRunnable("retain-set-unavailable", "The job has no retain set.")
        # Imported late: the checks above fail before torch takes its seconds to load.
        from vgid_core import UnlearnSpec

        return UnlearnSpec(
            model=model.path,
            model_name=model.name,
            forget=inputs.forget,
            retain=retain,
            utility=_read_pairs(None if registered is None else registered.utility, "utility"),
            probes=inputs.probes,
            never_seen=_read_pairs(model.never_seen, "never_seen"),
            bystanders=_read_pairs(model.bystanders, "bystanders"),
            strangers=_read_photos(model.strangers, "strangers"),
            unlabelled=_read_photos(model.unlabelled, "unlabelled"),
            config=UnlearnConfig.model_validate(job.config),
            out=out,
            checkpoint=checkpoint_folder(job.id),
            checkpoint_seconds=self._settings.checkpoint_seconds,
            keep_checkpoint=True,  # `_end` deletes it, once the artifact is stored
        )

    def _read_inputs(self, job: Job) -> JobInputs:
        if job.wrapped_data_key is None:
            raise TokenLost
        try:
            key = Keyring(self._settings.secret_key_bytes).unwrap(job.wrapped_data_key, job.id)
            return open_sealed(self._blobs.read_inputs(job.id), key)
        except BlobMissing:
            raise JobNotRunnable("inputs-missing", "The uploaded images and texts aren't there any more.") from None
        except DecryptionError:
            raise JobNotRunnable("inputs-unreadable", "The uploaded images and texts can't be decrypted.") from None

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

    def _save_metrics(self, stage: MetricStage, metrics: list[Metric]) -> None:
        rows = [MetricRow(metric.split, metric.name, metric.value, metric.pairs) for metric in metrics]

        def save() -> bool:
            with self._sessions.begin() as s:
                return claims.save_metrics(s, self._job_id, self._token, stage, rows)

        if not _retry(save):
            raise TokenLost

    def _finish(self, result: UnlearnResult, archive: Path) -> None:
        manifest = _retry(lambda: sign_artifact(self._sessions, self._settings, self._job_id, self._token, result))
        files = write_artifact_zip(result.folder, archive)
        sha256, size = self._blobs.put_artifact(archive)
        evidence = None if result.evidence is None else result.evidence.as_json()
        artifact = NewArtifact(sha256=sha256, size_bytes=size, files=files, manifest=manifest, evidence=evidence)

        def finish() -> bool:
            with self._sessions.begin() as s:
                return claims.finish(s, self._job_id, self._token, artifact, result.stop_reason) is not None

        self._end(finish)

    def _fail(self, code: str, detail: str) -> None:
        log.warning("job %s failed: %s", self._job_id, code)

        def fail() -> bool:
            with self._sessions.begin() as s:
                return claims.fail(s, self._job_id, self._token, code, detail) is not None

        self._end(fail)

    def _end(self, write: Callable[[], bool]) -> None:
        if not _retry(write):
            raise TokenLost
        delete_checkpoint(self._job_id)
        delete_inputs(self._sessions, self._blobs, self._job_id)


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


def _read_pairs(source: Path | None, name: str) -> PairSet | None:
    return None if source is None else PairSet.from_jsonl(source, name)


def _read_photos(source: Path | None, name: str) -> PhotoSet | None:
    return None if source is None else PhotoSet.read(source, name)


def _registered_retain_set(model: ModelEntry, job: Job) -> RetainSet | None:
    """The model's retain set that the job names, else the model's only one, else None.

    A job with retain pairs of its own gets the set too, for its utility pairs.
    """
    name = job.retain_set or model.default_retain_set
    if name is None:
        return None
    if name not in model.retain_sets:
        raise JobNotRunnable("retain-set-unavailable", "The retain set isn't in this worker's catalog any more.")
    return model.retain_sets[name]


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
