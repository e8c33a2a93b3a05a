"""Writes that wait for a database that is away."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic, sleep
from typing import TypeVar

from sqlalchemy.exc import OperationalError

from worker.describe import describe

log = logging.getLogger(__name__)

_SECONDS = 60.0
Result = TypeVar("Result")


def retry(write: Callable[[], Result]) -> Result:
    """Calls `write` and returns its result. While the database is away, calls it again for a minute."""
    deadline = monotonic() + _SECONDS
    while True:
        try:
            return write()
        except OperationalError as error:
            if monotonic() > deadline:
                raise
            log.warning("database: %s", describe(error))
            sleep(1.0)
