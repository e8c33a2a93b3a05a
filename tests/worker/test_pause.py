"""A worker's pauses, what ends them, and the exit statuses that ask for them."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event

import pytest
from sqlalchemy import text

from jobs.database import SessionFactory
from jobs.queueing.queue import JobQueue
from jobs.settings import Settings
from jobs.signing import keys as signing_keys
from jobs.storage.blobs import FileBlobStore
from jobs.surroundings import SIGNS, Fault, Sign
from local.postgres import EmbeddedPostgres
from worker.exit_status import sign_of_status, status_of
from worker.pause import Look, Pause, looks

FULL = Sign(Fault.disk_full, "ENOSPC")


class Waits(Event):
    """Remembers how long was to be waited, and doesn't. `then`: what happens in each wait, in their order."""

    def __init__(self, *then: Callable[[], object]) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._then = list(then)

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.seconds.append(timeout)
        if self._then:
            self._then.pop(0)()
        return False


class Disk:
    """A look at a disk that is full or not."""

    full = True

    def __call__(self) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "full")

    def empty(self) -> None:
        self.full = False


@pytest.fixture
def queue(redis_url: str) -> Iterator[JobQueue]:
    queue = JobQueue(redis_url)
    yield queue
    queue.close()


def test_pauses_double_up_to_a_minute_and_begin_anew(queue: JobQueue) -> None:
    waits = Waits()
    pause = Pause(queue, "machine:1", waits, [])
    for _ in range(8):
        pause.hold(FULL)
    assert waits.seconds == [1, 2, 4, 8, 16, 32, 60, 60]
    pause.hold()
    assert len(waits.seconds) == 8
    pause.forget()
    pause.hold(FULL)
    assert waits.seconds[-1] == 1


def test_a_pause_lasts_until_its_own_fault_is_gone(queue: JobQueue) -> None:
    disk = Disk()
    reported: list[list[str]] = []
    waits = Waits(*[lambda: reported.append(queue.pauses())] * 3, disk.empty)
    Pause(queue, "machine:1", waits, [disk]).hold()
    assert waits.seconds == [1, 2, 4, 8]
    assert reported == [["disk-full"]] * 3
    assert queue.pauses() == []


def test_several_faults_at_once_are_all_waited_for(queue: JobQueue) -> None:
    disk, key = Disk(), Event()

    def at_the_key() -> None:
        if not key.is_set():
            raise signing_keys.SigningKeyMissing

    seen: list[list[str]] = []
    waits = Waits(lambda: seen.append(queue.pauses()), disk.empty, lambda: seen.append(queue.pauses()), key.set)
    Pause(queue, "machine:1", waits, [disk, at_the_key]).hold()
    assert seen == [["disk-full", "signing-key-missing"], ["signing-key-missing"]]
    assert len(waits.seconds) == 4


def test_a_stopped_worker_waits_no_longer(queue: JobQueue) -> None:
    stopping = Event()
    stopping.set()
    Pause(queue, "machine:1", stopping, [Disk()]).hold()
    assert queue.pauses() == []


@pytest.fixture
def needed(
    settings: Settings, session_factory: SessionFactory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Sequence[Look]]:
    """What a worker with these settings looks at."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def look(**changes: object) -> Sequence[Look]:
        changed = settings.model_copy(update=changes)
        return looks(changed, session_factory, FileBlobStore(changed.blob_dir))

    return look


def test_a_pause_for_a_key_ends_with_the_key(
    settings: Settings, session_factory: SessionFactory, queue: JobQueue, needed: Callable[..., Sequence[Look]]
) -> None:
    found: list[list[str]] = []

    def mend() -> None:
        found.append(queue.pauses())
        assert settings.signing_keys is not None
        with session_factory.begin() as s:
            signing_keys.create(s, settings.signing_keys)

    Pause(queue, "machine:1", Waits(mend), needed()).hold()
    assert (found, queue.pauses()) == ([["signing-key-missing"]], [])


def test_a_pause_for_the_database_ends_with_the_database(
    settings: Settings,
    session_factory: SessionFactory,
    postgres: EmbeddedPostgres,
    queue: JobQueue,
    needed: Callable[..., Sequence[Look]],
) -> None:
    assert settings.signing_keys is not None
    with session_factory.begin() as s:
        signing_keys.create(s, settings.signing_keys)
        name = s.scalar(text("SELECT current_database()"))
    found: list[list[str]] = []

    def mend() -> None:
        found.append(queue.pauses())
        with postgres.connect() as connection:
            connection.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")

    with postgres.connect() as connection:
        connection.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
        connection.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    Pause(queue, "machine:1", Waits(mend), needed()).hold()
    assert (found, queue.pauses()) == ([["database-gone"]], [])


def test_a_folder_that_is_gone_is_storage_that_fails(
    settings: Settings, session_factory: SessionFactory, queue: JobQueue, needed: Callable[..., Sequence[Look]]
) -> None:
    assert settings.signing_keys is not None
    with session_factory.begin() as s:
        signing_keys.create(s, settings.signing_keys)
    blobs = settings.blob_dir
    away = blobs.with_name("elsewhere")
    found: list[list[str]] = []

    def mend() -> None:
        found.append(queue.pauses())
        away.rename(blobs)

    seen = needed()
    blobs.rename(away)
    Pause(queue, "machine:1", Waits(mend), seen).hold()
    assert (found, queue.pauses()) == ([["storage-error"]], [])


def test_less_free_space_than_stated_is_a_full_disk(needed: Callable[..., Sequence[Look]]) -> None:
    """That of the results, and that of the work and its checkpoints."""
    at_the_blobs, at_the_work, _ = needed(min_free_bytes=2**62)
    for look in (at_the_blobs, at_the_work):
        with pytest.raises(OSError, match="fewer bytes are free") as raised:
            look()
        assert raised.value.errno == errno.ENOSPC


def test_every_sign_has_a_status_of_its_own() -> None:
    assert {sign.fault for sign in SIGNS} == set(Fault)
    assert [sign_of_status(status_of(sign)) for sign in SIGNS] == list(SIGNS)
    assert [sign_of_status(status) for status in (0, 1, -9, 137)] == [None] * 4
