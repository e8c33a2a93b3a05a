"""`Client`: the service's HTTP interface as Python calls."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack
from urllib.parse import quote

from vgid_client.download import download
from vgid_client.errors import Conflict, InvalidRequest, Problem, UnexpectedReply
from vgid_client.event_feed import EventFeed
from vgid_client.models import (
    Artifact,
    Estimate,
    EvaluationFields,
    Event,
    Job,
    JobPage,
    ListFilters,
    Metric,
    Model,
    Release,
    ReplaySet,
    RequestFields,
    parse_reply,
)
from vgid_client.submission import Pair, request_parts
from vgid_client.transport import PAUSES, Transport, read_json

_UNLEARN_JOBS, _EVALUATIONS = "/unlearn-jobs", "/evaluations"
_IN_FLIGHT = "urn:vgid:problem:idempotency-in-flight"
_REFRESH_SECONDS = 0.5  # `follow` asks for the job at most this often while progress events arrive


class Client:
    """A connection to one service with one API key. Use it as a context manager, or call `close`.

    Every call raises a VgidError when it fails: Unreachable after some retries; Unauthorized, NotFound, Conflict,
    InvalidRequest or ServiceFailure for a problem document; UnexpectedReply for any other answer.
    timeout: seconds of each wait for the service.
    """

    def __init__(self, base_url: str, api_key: str, *, timeout: float = 30.0) -> None:
        self._transport = Transport(base_url, api_key, timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._transport.close()

    def models(self) -> list[Model]:
        """The models that can be made to forget."""
        document = read_json(self._transport.request("GET", "/models"))
        return [parse_reply(Model, item) for item in _read_list(document, "models")]

    def submit(
        self,
        model: str,
        forget: Iterable[Pair],
        *,
        retain: Iterable[Pair] | None = None,
        probes: Mapping[str, Iterable[Pair]] | None = None,
        idempotency_key: str | None = None,
        **fields: Unpack[RequestFields],
    ) -> Job:
        """Sends a forget request and returns the queued job.

        probes: sets that are only evaluated, never trained on.
        idempotency_key: two calls with the same key and content return the same job. Without one, each call makes a
        job, and a key of its own protects its retries after a lost connection.
        """
        parts = request_parts(model, forget, retain, probes, fields)
        return self._post_once(parts, idempotency_key or str(uuid.uuid4()))

    def estimate(
        self,
        model: str,
        forget: Iterable[Pair],
        *,
        retain: Iterable[Pair] | None = None,
        probes: Mapping[str, Iterable[Pair]] | None = None,
        **fields: Unpack[RequestFields],
    ) -> Estimate:
        """What `submit` would make of these, and what is to be looked at in the data. Nothing is stored."""
        parts = request_parts(model, forget, retain, probes, fields)
        reply = self._transport.request("POST", "/unlearn-jobs/estimate", files=parts)
        return parse_reply(Estimate, read_json(reply))

    def evaluate(
        self,
        model: str,
        forget: Iterable[Pair],
        *,
        adapter_of: str | None = None,
        release: bool = False,
        retain: Iterable[Pair] | None = None,
        probes: Mapping[str, Iterable[Pair]] | None = None,
        idempotency_key: str | None = None,
        **fields: Unpack[EvaluationFields],
    ) -> Job:
        """Asks for an evaluation and returns it queued. Nothing is trained; the rest is as in `submit`.

        forget: what must not be known. adapter_of: the id of the job whose adapter is measured. release: whether
        the model's current release is, with photos of your jobs that it holds. Else it is the model alone.
        """
        measured = {"adapter_of": adapter_of, "release": True if release else None}
        parts = request_parts(model, forget, retain, probes, {**fields, **measured})
        return self._post_once(parts, idempotency_key or str(uuid.uuid4()), _EVALUATIONS)

    def get(self, job: Job | str) -> Job:
        """The job as it is now. A string is the id of one that forgets."""
        return parse_reply(Job, read_json(self._transport.request("GET", _path(job))))

    def get_evaluation(self, evaluation_id: str) -> Job:
        """The evaluation as it is now. What it gives is taken by all methods that take a job."""
        path = f"{_EVALUATIONS}/{quote(evaluation_id, safe='')}"
        return parse_reply(Job, read_json(self._transport.request("GET", path)))

    def list_jobs(
        self,
        *,
        evaluations: bool = False,
        subject_reference: str | None = None,
        sort: str | None = None,
        total: bool = False,
        cursor: str | None = None,
        limit: int = 20,
        **filters: Unpack[ListFilters],
    ) -> JobPage:
        """A page of this client's jobs, newest first. For the next one, pass `next_cursor` as `cursor`, with the rest.

        evaluations: lists these instead of the jobs that forget.
        subject_reference: whose data it was; sent in a header, since a URL stays in logs.
        sort: created_at or due_at, with `-` in front for descending. total: whether to count all that match.
        """
        given = {**filters, "sort": sort, "total": total or None, "cursor": cursor, "limit": limit}
        query = {name: _in_query(value) for name, value in given.items() if value is not None}
        headers = {} if subject_reference is None else {b"Subject-Reference": _in_header(subject_reference)}
        path = _EVALUATIONS if evaluations else _UNLEARN_JOBS
        reply = self._transport.request("GET", path, params=query, headers=headers)
        return parse_reply(JobPage, read_json(reply))

    def cancel(self, job: Job | str) -> Job:
        """Asks the service to stop the job. Raises Conflict when it has succeeded or failed."""
        return parse_reply(Job, read_json(self._transport.request("POST", _path(job, "cancel"))))

    def metrics(self, job: Job | str) -> tuple[Metric, ...]:
        """What has been measured so far, before and after forgetting."""
        document = read_json(self._transport.request("GET", _path(job, "metrics")))
        return tuple(parse_reply(Metric, item) for item in _read_list(document, "metrics"))

    def receipt(self, job: Job | str) -> dict[str, Any]:
        """The job's deletion receipt: a DSSE envelope that `vgid verify` checks, as it was signed.

        Raises Conflict while the uploads aren't deleted, or the deletion isn't signed: seconds after the job's end.
        """
        document = read_json(self._transport.request("GET", _path(job, "receipt")))
        if not isinstance(document, dict) or "payload" not in document:
            raise UnexpectedReply("the reply holds no receipt: is this the right URL?")
        return document

    def signing_keys(self) -> dict[str, Any]:
        """The service's public keys, as `vgid verify --keys` reads them. Keep them: they are what you trust later."""
        document = read_json(self._transport.request("GET", "/.well-known/vgid-keys.json"))
        _read_list(document, "keys")
        found: dict[str, Any] = document
        return found

    def report(self, job: Job | str) -> str:
        """The evidence as an HTML page that needs nothing else."""
        return self._transport.request("GET", _path(job, "report")).text

    def evidence(self, job: Job | str) -> dict[str, Any]:
        """Everything that the audits of an ended job found, as an adapter's evidence.json holds it."""
        found: dict[str, Any] = read_json(self._transport.request("GET", _path(job, "evidence")))
        return found

    def events(self, job: Job | str, *, after: int = 0, patience: float = 60.0) -> Iterator[Event]:
        """Yields every event with an id above `after` as it happens, until the job has ended.

        patience: for how many seconds the service may be away before the failure is raised.
        """
        path = _path(job, "events")
        return iter(EventFeed(self._transport, path, after, patience, lambda: self.get(job).ended))

    def follow(self, job: Job | str, *, patience: float = 60.0) -> Iterator[Job]:
        """Yields the job now and after every change. The last one has ended."""
        now = self.get(job)
        yield now
        if now.ended:
            return
        asked_at = time.monotonic()
        for event in self.events(job, patience=patience):
            if event.kind == "progress" and time.monotonic() - asked_at < _REFRESH_SECONDS:
                continue
            now, asked_at = self.get(job), time.monotonic()
            yield now
            if now.ended:
                return

    def wait(self, job: Job | str, *, patience: float = 60.0) -> Job:
        """Waits until the job has ended, and returns it whether it succeeded or not."""
        for now in self.follow(job, patience=patience):
            if now.ended:
                return now
        return self.get(job)

    def release(self, model: str) -> Release:
        """The model's current release. Raises NotFound if none holds a job of yours, and the key may not `serve`."""
        return parse_reply(Release, read_json(self._transport.request("GET", _release_path(model))))

    def download_release(self, release: Release | str, target: str | Path) -> Path:
        """Downloads a release (a zip), or the model's current one, to `target`, as `download` does a job's adapter."""
        found = self.release(release) if isinstance(release, str) else release
        if found.zip_sha256 is None or found.zip_bytes is None:
            raise UnexpectedReply("this release's adapter is for keys with the right `serve`: wait for the next one")
        artifact = Artifact(sha256=found.zip_sha256, size_bytes=found.zip_bytes)
        return download(self._transport, f"{_release_path(found.model)}/adapter", artifact, Path(target))

    def replay_set(self, job: Job | str) -> ReplaySet:
        """What is kept of the job. Raises NotFound if nothing was."""
        return parse_reply(ReplaySet, read_json(self._transport.request("GET", _path(job, "replay-set"))))

    def end_replay_set(self, job: Job | str) -> None:
        """Destroys the replay set's key, and has its file deleted.

        Later releases can't be checked for its people any more.
        """
        self._transport.request("DELETE", _path(job, "replay-set"))

    def replay_set_receipt(self, job: Job | str) -> dict[str, Any]:
        """The receipt of the replay set's deletion, as `receipt` is of the uploads'.

        Raises Conflict until it is signed.
        """
        document: dict[str, Any] = read_json(self._transport.request("GET", _path(job, "replay-set/receipt")))
        return document

    def download(self, job: Job | str, target: str | Path) -> Path:
        """Downloads the adapter (a zip) to `target`, resumes an earlier download, and checks the sha256.

        Raises IntegrityError when the sha256 differs from the job's record, Conflict when the job has no artifact.
        """
        current = self.get(job) if isinstance(job, str) else job
        path = _path(current, "artifact")
        if current.artifact is None:
            self._transport.request("GET", path)  # raises Conflict with the service's reason
            raise UnexpectedReply("the job's record names no artifact")
        return download(self._transport, path, current.artifact, Path(target))

    def _post_once(self, parts: list[Any], key: str, path: str = _UNLEARN_JOBS) -> Job:
        """Sends the request until it is answered. The idempotency key prevents a second job."""
        for pause in (*PAUSES, None):
            try:
                response = self._transport.request("POST", path, files=parts, headers={"Idempotency-Key": key})
                return parse_reply(Job, read_json(response))
            except Conflict as error:
                # An earlier try whose answer was lost may still be in progress.
                if pause is None or error.problem.type != _IN_FLIGHT:
                    raise
                time.sleep(pause)
        raise AssertionError("unreachable: the last attempt returns or raises")


def _path(job: Job | str, *rest: str) -> str:
    """The path of the job, or of a part of it. A string is the id of a job that forgets."""
    root = _EVALUATIONS if isinstance(job, Job) and job.kind == "evaluate" else _UNLEARN_JOBS
    return "/".join([root, quote(job if isinstance(job, str) else job.id, safe=""), *rest])


def _release_path(model: str) -> str:
    return f"/models/{quote(model, safe='')}/release"


def _in_query(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if not isinstance(value, Mapping):
        return value
    if any("=" in key for key in value):
        raise InvalidRequest(Problem(status=422, detail="a metadata key that holds '=' can't be asked for"))
    return [f"{key}={text}" for key, text in value.items()]


def _in_header(reference: str) -> bytes:
    text = reference.strip()
    if not text or any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
        raise InvalidRequest(Problem(status=422, detail="a subject reference is one line without control characters"))
    return text.encode()


def _read_list(document: Any, name: str) -> list[Any]:
    items = document.get(name) if isinstance(document, dict) else None
    if not isinstance(items, list):
        raise UnexpectedReply(f"the reply holds no {name}: is this the right URL?")
    return items
