"""Writes that wait for what is lacking, so that a finished training isn't lost and done again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic, sleep
from typing import TypeVar

from sqlalchemy.exc import OperationalError

from jobs.surroundings import Fault, sign_of
from worker.describe import describe

log = logging.getLogger(__name__)

_DATABASE_SECONDS = 60.0
_LONGEST = 15.0  # seconds between two tries, and between two reports that the attempt goes on
# What passes while the attempt lives: its lease is renewed by the supervisor. Without a database it is lost.
_PASSING = (Fault.disk_full, Fault.read_only, Fault.storage, Fault.signing_key)

Result = TypeVar("Result")


def once_the_database_answers(write: Callable[[], Result]) -> Result:
    """Calls `write` and returns its result. While the database is away, calls it again for a minute."""
    deadline = monotonic() + _DATABASE_SECONDS
    while True:
        try:
            return write()
        except OperationalError as error:
            if monotonic() > deadline:
                raise
            log.warning("database: %s", describe(error))
            sleep(1.0)


def once_it_can_be_stored(write: Callable[[], Result], seconds: float, waiting: Callable[[], None]) -> Result:
    """Calls `write` and returns its result. While storage or a signing key is lacking, calls it again for `seconds`.

    waiting: called before each further try. What it raises ends the wait.
    """
    deadline, pause = monotonic() + seconds, 1.0
    while True:
        try:
            return write()
        except Exception as error:
            sign = sign_of(error)
            left = deadline - monotonic()
            if sign is None or sign.fault not in _PASSING or left <= 0:
                raise
            log.warning("the result waits: %s: %s", sign, describe(error))
        waiting()
        sleep(min(pause, left))
        pause = min(_LONGEST, 2 * pause)
