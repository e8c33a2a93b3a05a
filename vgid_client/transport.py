"""One HTTP connection pool that retries what is safe to retry and turns failures into this package's errors."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import httpx

from vgid_client.errors import Problem, ServiceFailure, Unauthorized, UnexpectedReply, Unreachable, error_of

PAUSES = (0.2, 0.5, 1.0, 2.0)
"""Seconds between the attempts of one request."""

_NOT_READY = frozenset({502, 503, 504})
_LONGEST_WAIT = 30.0


class Transport:
    """`base_url` with or without a path; `timeout` in seconds bounds each wait for the service, not a whole request."""

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
        # A proxy from the environment can't reach this machine's own loopback address.
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
        """A successful response, its body read. Only for requests that may arrive twice; raises VgidError."""
        for pause in (*PAUSES, None):
            try:
                response = self._http.request(method, path, **arguments)
            except httpx.TransportError as error:
                failure: Exception = self._unreachable(error)
            else:
                if response.is_success:
                    return response
                failure = error_of(response)
                if response.status_code not in _NOT_READY:
                    break
                pause = _retry_after(response, pause)
            if pause is None:
                break
            time.sleep(pause)
        raise failure

    @contextmanager
    def stream(self, path: str, *, headers: dict[str, str], read_timeout: float) -> Iterator[httpx.Response]:
        """One GET without retries, its body unread; a failing status raises. Errors while reading are mapped too."""
        timeout = httpx.Timeout(self._http.timeout.connect, read=read_timeout)
        try:
            with self._http.stream("GET", path, headers=headers, timeout=timeout) as response:
                if not response.is_success:
                    response.read()
                    raise error_of(response)
                yield response
        except httpx.TransportError as error:
            raise self._unreachable(error) from None

    def _unreachable(self, error: httpx.TransportError) -> Unreachable:
        timed_out = isinstance(error, httpx.TimeoutException)
        reason = "no answer in time" if timed_out else "connection refused or cut off"
        return Unreachable(f"cannot reach the service at {self._origin}: {reason}")


def json_of(response: httpx.Response) -> Any:
    """The body as JSON; raises UnexpectedReply when it isn't."""
    try:
        return response.json()
    except ValueError:
        raise UnexpectedReply("the reply is not JSON: is this the right URL?") from None


def is_passing(error: Exception) -> bool:
    """Whether waiting may mend it: no connection, or a service that isn't ready."""
    return isinstance(error, Unreachable | ServiceFailure)


def _retry_after(response: httpx.Response, pause: float | None) -> float | None:
    wished = response.headers.get("Retry-After", "")
    if pause is None or not wished.isdigit():
        return pause
    return min(float(wished), _LONGEST_WAIT)


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
