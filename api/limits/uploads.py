"""How many requests with a body of pairs one client may have here at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from api.limits.known_clients import KnownClient
from api.problems import QuotaExceeded

_RETRY_SECONDS = 5


class Uploads:
    """The requests that arrive, wait for their check or are checked, by client. What they hold is on disk meanwhile."""

    def __init__(self) -> None:
        self._open: Counter[UUID] = Counter()

    @contextmanager
    def admitted(self, client: KnownClient) -> Iterator[None]:
        """Counts one within the context. Raises QuotaExceeded where the client has as many as it may."""
        most = client.limits.uploads_at_once
        if self._open[client.id] >= most:
            detail = f"At most {most} requests with pairs may arrive or be checked at a time."
            raise QuotaExceeded(detail, retry_after=_RETRY_SECONDS)
        self._open[client.id] += 1
        try:
            yield
        finally:
            self._open[client.id] -= 1
            self._open += Counter()  # drops those at zero
