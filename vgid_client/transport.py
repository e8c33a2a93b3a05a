"""The HTTP connections to the service. Failed requests are retried, and failures become this package's errors."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import httpx

from vgid_client.errors import (
    Problem,
    QuotaExceeded,
    ServiceFailure,
    Unauthorized,
    UnexpectedReply,
    Unreachable,
    error_from_response,
)

PAUSES = (0.2, 0.5, 1.0, 2.0)  # seconds between the tries of one request
_NOT_READY = frozenset({502, 503, 504})
_LONGEST_PAUSE_SECONDS = 30.0
# A quota of a minute is waited for, one of an hour isn't.
_LONGEST_QUOTA_SECONDS = 60.0
_QUOTA_EXCEEDED = 429


class Transport:
    """A pool of connections to one service.

    base_url: with or without a path. timeout: seconds of each wait for the service, not of a whole request.
    """

    def __init__(self, base_url: str, api_key: str, timeout: float) -> None:
        try:
            url = httpx.URL(base_url)
        except httpx.InvalidURL:
            url = httpx.URL("")
        if url.scheme not in ("http", "https") or not url.host:
            raise UnexpectedReply("the service's URL must look like http://host:port")
        if not (api_key.isascii() and api_key.isprintable()):
            raise Unauthorized(Problem(status=401, detail="the API key holds characters that no key has"))
        self._origin = f"{url.scheme}://{url.netloc.decode()}"
        # A proxy from the environment can't reach this machine's loopback address.
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {api_key}", "User-Agent": f"vgid-client/{_own_version()}"},
            timeout=timeout,
            trust_env=not _is_loopback(url.host),
        )

    def close(self) -> None:
        """Closes the pooled connections."""
        self._http.close()

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """Sends a request, again if necessary, and returns its successful response with the body read.

        Only for requests that may arrive twice. Raises VgidError.
        """
        for pause in (*PAUSES, None):
            try:
                response = self._http.request(method, path, **arguments)
            except httpx.TransportError as error:
                failure: Exception = self._unreachable(error)
            else:
                if response.is_success:
                    return response
                failure = error_from_response(response)
                if response.status_code in _NOT_READY:
                    pause = _retry_after(response, pause)
                elif response.status_code != _QUOTA_EXCEEDED or not (pause := _quota_pause(response, pause)):
                    break
            if pause is None:
                break
            time.sleep(pause)
        raise failure

    @contextmanager
    def stream(self, path: str, *, headers: dict[str, str], read_timeout: float) -> Iterator[httpx.Response]:
        """Sends one GET without retries and gives its response with the body unread.

        Raises VgidError, also for an error while the block reads the body.
        """
        timeout = httpx.Timeout(self._http.timeout.connect, read=read_timeout)
        try:
            with self._http.stream("GET", path, headers=headers, timeout=timeout) as response:
                if not response.is_success:
                    response.read()
                    raise error_from_response(response)
                yield response
        except httpx.TransportError as error:
            raise self._unreachable(error) from None

    def _unreachable(self, error: httpx.TransportError) -> Unreachable:
        timed_out = isinstance(error, httpx.TimeoutException)
        reason = "no answer in time" if timed_out else "connection refused or cut off"
        return Unreachable(f"cannot reach the service at {self._origin}: {reason}")


def read_json(response: httpx.Response) -> Any:
    """Parses the body as JSON. Raises UnexpectedReply if it isn't."""
    try:
        return response.json()
    except ValueError:
        raise UnexpectedReply("the reply is not JSON: is this the right URL?") from None


def is_transient(error: Exception) -> bool:
    """Whether a later try may succeed: the service couldn't be reached, wasn't ready, or the quota was used up."""
    return isinstance(error, Unreachable | ServiceFailure | QuotaExceeded)


def _retry_after(response: httpx.Response, pause: float | None) -> float | None:
    """The pause that the service asks for, else `pause`. None stays None: there is no further try."""
    requested = response.headers.get("Retry-After", "")
    if pause is None or not requested.isdigit():
        return pause
    return min(float(requested), _LONGEST_PAUSE_SECONDS)


def _quota_pause(response: httpx.Response, pause: float | None) -> float | None:
    """The pause until a quota is there again; None where that is too long, or there is no further try."""
    requested = response.headers.get("Retry-After", "")
    if pause is None or not requested.isdigit() or int(requested) > _LONGEST_QUOTA_SECONDS:
        return None
    return float(requested)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _own_version() -> str:
    try:
        return version("vgid")
    except PackageNotFoundError:
        return "0"
