"""The Celery process: celery -A worker.celery_app worker

A message wakes it. It then claims one job after the other from the ledger and starts a process for each
(`worker.attempt.process`). It never loads torch. Messages are acknowledged before the work starts, and results are
ignored: Postgres alone holds a job's state.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any

from celery import Celery
from celery.signals import worker_init, worker_ready, worker_shutdown, worker_shutting_down
from sqlalchemy.exc import OperationalError

from jobs.database import make_engine, session_factory
from jobs.queueing.queue import QUEUE_NAME, TASK_NAME, JobQueue
from jobs.settings import get_settings
from jobs.signing.keys import SigningKeyMissing, private_key
from jobs.storage.blobs import FileBlobStore
from worker.describe import describe
from worker.gpu_slot import visible_gpus
from worker.housekeeping import Housekeeper
from worker.supervisor import Supervisor, WorkerContext
from worker.work_folder import delete_abandoned

log = logging.getLogger(__name__)

_gpus = visible_gpus()

app = Celery("vgid", broker=get_settings().redis_url)
app.conf.update(
    task_default_queue=QUEUE_NAME,
    task_ignore_result=True,
    task_acks_late=False,
    # One thread per accelerator. A thread only waits for its attempt's process.
    worker_pool="worker.pool:WakingPool",
    worker_concurrency=max(1, len(_gpus)),
    # A worker that fetched a wake-up ahead would keep it from an idle worker.
    worker_prefetch_multiplier=1,
    worker_disable_prefetch=True,
    worker_enable_remote_control=False,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
)


@lru_cache(maxsize=1)
def _context() -> WorkerContext:
    settings = get_settings()
    return WorkerContext(
        settings=settings,
        sessions=session_factory(make_engine(settings)),
        blobs=FileBlobStore(settings.blob_dir),
        queue=JobQueue(settings.redis_url),
    )


@lru_cache(maxsize=1)
def _supervisor() -> Supervisor:
    return Supervisor(_context(), _gpus)


@lru_cache(maxsize=1)
def _housekeeper() -> Housekeeper:
    return Housekeeper(_context())


@app.task(name=TASK_NAME)  # type: ignore[untyped-decorator]
def work() -> None:
    """Runs jobs until none is left for this worker. It never raises, because Celery would log the error's message."""
    try:
        _supervisor().run()
    except Exception as error:  # the reaper wakes a worker again
        log.error("no job claimed: %s", describe(error))


def _require_signing_key() -> None:
    """Ends the worker unless it can sign. Celery catches and logs every Exception of a signal's receiver."""
    context = _context()
    try:
        with context.sessions.begin() as s:
            private_key(s, context.settings.signing_keys)
    except SigningKeyMissing as error:
        raise SystemExit(f"this worker can't sign what it makes: {error}") from None
    except OperationalError as error:  # the worker waits for the database, and an attempt asks again
        log.warning("signing keys not checked: %s", describe(error))


def _prepare(**_: Any) -> None:
    _require_signing_key()
    delete_abandoned()
    _supervisor().start_spares()


def _start_housekeeping(**_: Any) -> None:
    _housekeeper().start()


def _stop(**_: Any) -> None:
    _housekeeper().stop()
    _supervisor().stop()


def _close(**_: Any) -> None:
    _supervisor().close()


worker_init.connect(_prepare)
worker_ready.connect(_start_housekeeping)
worker_shutting_down.connect(_stop)
worker_shutdown.connect(_close)
