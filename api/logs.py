"""The log: one JSON object a line on stderr, with the request's id and never a value from a request.

An exception is logged by its type and place. Its message is left out: a driver or a decoder may quote data in it.
"""

from __future__ import annotations

import json
import logging
import math
import traceback
from collections import Counter
from contextvars import ContextVar
from datetime import UTC, datetime

_MOST_KINDS = 1000  # remembered

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON. `extra={"fields": {...}}` adds members."""

    def format(self, record: logging.LogRecord) -> str:
        """The line. It holds no traceback and no exception's message."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if current := request_id.get():
            line["request_id"] = current
        line.update(getattr(record, "fields", {}))
        if record.exc_info and record.exc_info[1] is not None:
            line.update(describe_error(record.exc_info[1]))
        return json.dumps(line, default=str)


def describe_error(error: BaseException) -> dict[str, str]:
    """What the log may say about an exception: its type, its cause's type, and the line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    facts = {"error": type(error).__name__}
    if frames:
        facts["at"] = f"{frames[-1].filename}:{frames[-1].lineno}"
    if error.__cause__ is not None:
        facts["cause"] = type(error.__cause__).__name__
    return facts


class OncePerSecond(logging.Filter):
    """Lets a warning or error of one kind through once a second, and says in the next how many it held back.

    A kind is a logger and a message before its arguments. Lines about requests are INFO: all of them pass.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[str, str], float] = {}
        self._held: Counter[tuple[str, str]] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged."""
        if record.levelno < logging.WARNING:
            return True
        kind = (record.name, str(record.msg)[:200])
        if record.created - self._last.get(kind, -math.inf) < 1:
            self._held[kind] += 1
            return False
        if len(self._last) >= _MOST_KINDS:
            self._last.clear()
        self._last[kind] = record.created
        if held := self._held.pop(kind, 0):
            record.fields = {**getattr(record, "fields", {}), "held_back": held}
        return True


def configure_logging() -> None:
    """Formats every logger of this process as JSON, and silences uvicorn's access log and Alembic's INFO lines.

    One kind of warning or error is logged once a second, however often it happens.

    uvicorn's access log holds the whole URL with its query. Our own line (api.middleware) holds the route instead.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    handler.addFilter(OncePerSecond())
    logging.root.handlers = [handler]
    logging.root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    # Every readiness check would log two lines about the dialect.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    access = logging.getLogger("uvicorn.access")
    access.handlers.clear()
    access.propagate = False
