"""Receives a request: its bytes within limits and quota, and scratch files that are gone afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import Request

from api.forget_requests.checking import Checked, check_in_process
from api.forget_requests.request_check import CheckLimits, UncheckedRequest
from api.forget_requests.spool import Spool, SpooledBody
from api.limits.known_clients import KnownClient
from api.limits.quotas import bytes_policy, pixels_policy
from api.problems import BodyTooLarge
from api.request_rules import charge, refuse_encoded_body
from api.schemas import JobRequest
from api.services import Services


@asynccontextmanager
async def received(
    request: Request, services: Services, client: KnownClient, data_key: bytes, schema: type[JobRequest]
) -> AsyncIterator[UncheckedRequest]:
    """The request's body, received whole. Its files, but the sealed one if it is moved away, end with the context.

    Raises BodyTooLarge, UnsupportedMediaType, QuotaExceeded, or OSError.
    """
    settings, blobs = services.settings, services.blobs
    sealed, spool = blobs.scratch_file(), Spool(blobs.scratch_file())
    try:
        body = await _receive(request, spool, settings.max_body_bytes)
        await charge(request, services, client, bytes_policy(client.limits), spool.size, spent=False)
        yield UncheckedRequest(
            schema=schema,
            content_type=request.headers.get("content-type", ""),
            body=body,
            limits=CheckLimits.of(settings, client.limits),
            catalog=services.catalog,
            data_key=data_key,
            sealed=sealed,
            place=blobs.scratch_file(),
        )
    finally:
        spool.close()
        sealed.unlink(missing_ok=True)


async def checked_in_turn(
    request: Request,
    services: Services,
    client: KnownClient,
    check: Callable[[UncheckedRequest], Checked],
    unchecked: UncheckedRequest,
) -> Checked:
    """Waits for the client's turn, then checks as `check_in_process` does. Raises QuotaExceeded with no pixel left."""
    await charge(request, services, client, pixels_policy(client.limits), 0, spent=False)
    async with services.checks.turn(client.id):
        return await check_in_process(check, unchecked, request, services.settings.check_seconds)


async def _receive(request: Request, spool: Spool, max_bytes: int) -> SpooledBody:
    """Receives the body. Raises BodyTooLarge as soon as more than `max_bytes` are announced or have arrived.

    Raises UnsupportedMediaType for a compressed body, before it is read. Starlette's own limit (`max_body_size`) isn't
    used: it answers in plain text, and before the key is checked.
    """
    refuse_encoded_body(request)
    refusal = BodyTooLarge(f"The body may have at most {max_bytes} bytes.")
    if int(request.headers.get("content-length", "0")) > max_bytes:
        raise refusal
    async for chunk in request.stream():
        if spool.size + len(chunk) > max_bytes:
            raise refusal
        spool.write(chunk)
    return spool.finish()
