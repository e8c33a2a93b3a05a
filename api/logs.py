"""One JSON object a line on stderr: what happened and under which request id; never a value from a request.

Exceptions are logged as their type and place. Their messages are left out: a driver's or a decoder's may quote data.
"""

from __future__ import annotations

import json
import logging
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


class JsonLines(logging.Formatter):
    """Formats a record as one line; `extra={"fields": {...}}` adds members."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without a traceback and without the message of an exception."""
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
            line.update(described(record.exc_info[1]))
        return json.dumps(line, default=str)


def described(error: BaseException) -> dict[str, str]:
    """What may be logged about an exception: its type, its cause's type, and the line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    facts = {"error": type(error).__name__}
    if frames:
        facts["at"] = f"{frames[-1].filename}:{frames[-1].lineno}"
    if error.__cause__ is not None:
        facts["cause"] = type(error.__cause__).__name__
    return facts


def configure_logging() -> None:
    """Sends every logger of this process through JsonLines, and silences uvicorn's access log and Alembic's chatter.

    uvicorn's own lines hold the whole URL with its query; ours (api.middleware) hold the route.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.root.handlers = [handler]
    logging.root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    # two lines about the dialect for every look at the readiness
    logging.getLogger("alembic").setLevel(logging.WARNING)
    access = logging.getLogger("uvicorn.access")
    access.handlers.clear()
    access.propagate = False
