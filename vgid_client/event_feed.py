"""A job's events as they happen: a stream that reconnects, and polling where streams don't get through."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from vgid_client.errors import UnexpectedReply, VgidError
from vgid_client.models import ENDED, Event, parse_reply
from vgid_client.transport import Transport, is_transient, read_json

_READ_TIMEOUT_SECONDS = 45.0  # the service sends a comment every 15 seconds
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 1.0
_MAX_EMPTY_STREAMS = 3  # after so many streams in a row without an event, polling takes over


@dataclass
class EventFeed:
    """Iterates over the events of one job after `last_id`, each once and in order, until the job's last event.

    A lost connection is opened again and resumes after the last event received.
    patience: seconds without any answer from the service before Unreachable or ServiceFailure is raised.
    ended: whether the job has ended, so that no event will follow.
    """

    transport: Transport
    path: str
    last_id: int
    patience: float
    ended: Callable[[], bool]
    _empty_streams: int = field(default=0, init=False)
    _last_answer_at: float = field(default_factory=time.monotonic, init=False)

    def __iter__(self) -> Iterator[Event]:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            before = self.last_id
            try:
                for event in self._poll() if self._polling else self._stream():
                    self.last_id = event.id
                    yield event
                    if event.kind == "state" and event.data.get("state") in ENDED:
                        return
                self._last_answer_at = time.monotonic()
                if self.last_id == before and self.ended():
                    return
            except VgidError as error:
                if not is_transient(error) or time.monotonic() - self._last_answer_at > self.patience:
                    raise
            received = self.last_id > before
            if not self._polling:
                self._empty_streams = 0 if received else self._empty_streams + 1
            pause = _FIRST_PAUSE_SECONDS if received else min(pause * 2, _LONGEST_PAUSE_SECONDS)
            time.sleep(pause)

    @property
    def _polling(self) -> bool:
        """Whether polling has replaced streams. It does so until the job has ended."""
        return self._empty_streams >= _MAX_EMPTY_STREAMS

    def _stream(self) -> Iterator[Event]:
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(self.last_id)}
        with self.transport.stream(self.path, headers=headers, read_timeout=_READ_TIMEOUT_SECONDS) as response:
            if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
                self._empty_streams = _MAX_EMPTY_STREAMS
                return
            yield from _parse_events(self._note_answers(response.iter_lines()))

    def _poll(self) -> Iterator[Event]:
        response = self.transport.request("GET", self.path, params={"after": self.last_id})
        document = read_json(response)
        if not isinstance(document, dict) or not isinstance(document.get("events"), list):
            raise UnexpectedReply("the reply holds no events: is this the right URL?")
        for item in document["events"]:
            yield parse_reply(Event, item)

    def _note_answers(self, lines: Iterable[str]) -> Iterator[str]:
        for line in lines:
            self._last_answer_at = time.monotonic()
            yield line


def _parse_events(lines: Iterable[str]) -> Iterator[Event]:
    """Parses the lines of a `text/event-stream`, whose `data` is a whole event as JSON."""
    data: list[str] = []
    for line in lines:
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            try:
                document = json.loads("\n".join(data))
            except ValueError:
                raise UnexpectedReply("an event isn't JSON: is this the right URL?") from None
            yield parse_reply(Event, document)
            data = []
