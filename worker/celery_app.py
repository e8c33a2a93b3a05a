"""The worker process: celery -A worker.celery_app worker

It takes ids from the queue and never loads torch; every job gets a process of its own (`worker.process`). Messages
are acknowledged before the work starts and results are ignored: Postgres alone knows how a job stands.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any
from uuid import UUID

from celery import Celery
from celery.signals import worker_init, worker_ready, worker_shutdown, worker_shutting_down

from jobs.database import make_engine, session_factory
from jobs.queue import QUEUE_NAME, TASK_NAME, JobQueue
from jobs.settings import get_settings
from jobs.storage.blobs import FileBlobStore
from worker.describe import describe
from worker.gpus import visible_gpus
from worker.housekeeping import Housekeeper
from worker.supervise import Supervisor, WorkerContext
from worker.work_folder import delete_abandoned

log = logging.getLogger(__name__)

_gpus = visible_gpus()

app = Celery("vgid", broker=get_settings().redis_url)
app.conf.update(
    task_default_queue=QUEUE_NAME,
    task_ignore_result=True,
    task_acks_late=False,
    # One thread per accelerator; a thread only waits for its attempt's process.
    worker_pool="worker.pool:WakingPool",
    worker_concurrency=max(1, len(_gpus)),
    # A worker that fetches ahead would keep a job from an idle one.
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
def run_job(job_id: str) -> None:
    """One attempt at the job. Never raises: Celery would log the message of the error, and has no use for it."""
    try:
        _supervisor().run(UUID(job_id))
    except Exception as error:  # the lease runs out, and the reaper gives the job to another attempt
        log.error("job %s: %s", job_id, describe(error))


def _before_work(**_: Any) -> None:
    delete_abandoned()
    _supervisor().get_ready()


def _start_housekeeping(**_: Any) -> None:
    _housekeeper().start()


def _stop(**_: Any) -> None:
    _housekeeper().stop()
    _supervisor().stop()


def _close(**_: Any) -> None:
    _supervisor().close()


worker_init.connect(_before_work)
worker_ready.connect(_start_housekeeping)
worker_shutting_down.connect(_stop)
worker_shutdown.connect(_close)
