"""Receives a request: its bytes within limits and quota, and scratch files that are gone afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
from fastapi import Request

from api.forget_requests.checking import Checked, check_in_process
from api.forget_requests.request_check import CheckLimits, UncheckedRequest, decoding_of
from api.forget_requests.spool import Spool, SpooledBody
from api.limits.deadline import lift_deadline
from api.limits.known_clients import KnownClient
from api.limits.quotas import bytes_policy, pixels_policy
from api.problems import BodyTooLarge
from api.request_rules import charge, count, refuse_encoded_body
from api.schemas import JobRequest
from api.services import Services


@asynccontextmanager
async def received(
    request: Request, services: Services, client: KnownClient, data_key: bytes, schema: type[JobRequest]
) -> AsyncIterator[UncheckedRequest]:
    """The request's body, received whole. Its files, but the sealed one if it is moved away, end with the context.

    Announced bytes are counted, or refused, before any is read. Raises BodyTooLarge, UnsupportedMediaType,
    QuotaExceeded, or OSError.
    """
    settings, blobs = services.settings, services.blobs
    announced = _announced(request, settings.max_body_bytes)
    await charge(request, services, client, bytes_policy(client.limits), announced, spent=False)
    lift_deadline(request)
    sealed, decoding, spool = blobs.scratch_file(), blobs.scratch_file(), Spool(blobs.scratch_file())
    try:
        body = await _receive(request, spool, settings.max_body_bytes)
        if not announced:
            await charge(request, services, client, bytes_policy(client.limits), spool.size, spent=False)
        yield UncheckedRequest(
            schema=schema,
            content_type=request.headers.get("content-type", ""),
            body=body,
            limits=CheckLimits.of(settings, client.limits),
            catalog=services.catalog,
            data_key=data_key,
            sealed=sealed,
            decoding=decoding,
        )
    finally:
        spool.close()
        sealed.unlink(missing_ok=True)
        decoding.unlink(missing_ok=True)


async def checked_in_turn(
    request: Request,
    services: Services,
    client: KnownClient,
    check: Callable[[UncheckedRequest], Checked],
    unchecked: UncheckedRequest,
) -> Checked:
    """Waits for the client's turn, then checks as `check_in_process` does. Raises QuotaExceeded with no pixel left.

    What was decoded counts, also for a client that has hung up and for a check that was refused or killed.
    """
    policy, left = pixels_policy(client.limits), None
    await charge(request, services, client, policy, 0, spent=False)
    async with services.checks.turn(client.id):
        try:
            checked = await check_in_process(check, unchecked, request, services.settings.check_seconds)
        finally:
            if decoding := decoding_of(unchecked):
                with anyio.CancelScope(shield=True):
                    left = await count(request, services, client, policy, decoding.pixels)
    if left is not None and left.exceeded:
        raise left.refusal()
    return checked


def _announced(request: Request, max_bytes: int) -> int:
    """How many bytes the body is said to have; 0 where that isn't said. Raises BodyTooLarge and UnsupportedMediaType.

    Starlette's own limit (`max_body_size`) isn't used: it answers in plain text, and before the key is checked.
    """
    refuse_encoded_body(request)
    announced = int(request.headers.get("content-length", "0"))
    if announced > max_bytes:
        raise _too_large(max_bytes)
    return announced


def _too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body may have at most {max_bytes} bytes.")


async def _receive(request: Request, spool: Spool, max_bytes: int) -> SpooledBody:
    """Receives the body. Raises BodyTooLarge as soon as more than `max_bytes` have arrived."""
    async for chunk in request.stream():
        if spool.size + len(chunk) > max_bytes:
            raise _too_large(max_bytes)
        spool.write(chunk)
    return spool.finish()
