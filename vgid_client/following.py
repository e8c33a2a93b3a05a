"""A job's events as they happen: server-sent events that survive a cut, plain polling where they don't get through."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from vgid_client.errors import UnexpectedReply, VgidError
from vgid_client.models import ENDED, Event, parsed
from vgid_client.transport import Transport, is_passing, json_of

_SILENCE = 45.0  # seconds; the service sends a comment every 15
_POLL = 1.0  # seconds between two requests when polling
_BARREN_STREAMS = 3  # streams that end without one event before polling takes over


@dataclass
class EventFeed:
    """The events of one job after `last_id`, once each and in order, until the one that ends it.

    Lost connections are taken up again where they broke off; `patience` is how many seconds without any answer
    are borne before Unreachable or ServiceFailure is raised. `ended` says whether nothing more will come.
    """

    transport: Transport
    path: str
    last_id: int
    patience: float
    ended: Callable[[], bool]
    _barren: int = field(default=0, init=False)
    _heard_at: float = field(default_factory=time.monotonic, init=False)

    def __iter__(self) -> Iterator[Event]:
        pause = 0.2
        while True:
            before = self.last_id
            try:
                for event in self._polled() if self._polling else self._streamed():
                    self.last_id = event.id
                    yield event
                    if event.kind == "state" and event.data.get("state") in ENDED:
                        return
                self._heard_at = time.monotonic()
                if self.last_id == before and self.ended():
                    return
            except VgidError as error:
                if not is_passing(error) or time.monotonic() - self._heard_at > self.patience:
                    raise
            moved = self.last_id > before
            if not self._polling:
                self._barren = 0 if moved else self._barren + 1
            pause = 0.2 if moved else min(pause * 2, _POLL)
            time.sleep(pause)

    @property
    def _polling(self) -> bool:
        """Whether streams were given up; then they stay so until the job has ended."""
        return self._barren >= _BARREN_STREAMS

    def _streamed(self) -> Iterator[Event]:
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(self.last_id)}
        with self.transport.stream(self.path, headers=headers, read_timeout=_SILENCE) as response:
            if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
                self._barren = _BARREN_STREAMS
                return
            yield from parse_events(self._heard(response.iter_lines()))

    def _polled(self) -> Iterator[Event]:
        response = self.transport.request("GET", self.path, params={"after": self.last_id})
        document = json_of(response)
        if not isinstance(document, dict) or not isinstance(document.get("events"), list):
            raise UnexpectedReply("the reply holds no events: is this the right URL?")
        for item in document["events"]:
            yield parsed(Event, item)

    def _heard(self, lines: Iterable[str]) -> Iterator[str]:
        for line in lines:
            self._heard_at = time.monotonic()
            yield line


def parse_events(lines: Iterable[str]) -> Iterator[Event]:
    """Events out of the lines of a `text/event-stream`; each one's `data` is the JSON of a whole event."""
    data: list[str] = []
    for line in lines:
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            try:
                document = json.loads("\n".join(data))
            except ValueError:
                raise UnexpectedReply("an event isn't JSON: is this the right URL?") from None
            yield parsed(Event, document)
            data = []
