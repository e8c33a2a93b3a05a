"""Receives a request: its bytes within limits and quota, and scratch files that are gone afterwards."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from fastapi import Request

from api.forget_requests.checking import Check, CheckCost, Checked, TooDear, check_in_process, keep_spare
from api.forget_requests.request_check import CheckLimits, UncheckedRequest
from api.forget_requests.spool import Spool, SpooledBody
from api.limits.deadline import lift_deadline
from api.limits.known_clients import KnownClient
from api.limits.quotas import Remaining, bytes_policy, pixels_policy, processor_policy
from api.limits.turns import SMALL_BODY
from api.problems import BodyTooLarge, FieldError, InvalidRequest
from api.request_rules import count, refuse_encoded_body, refuse_exceeded, require_left
from api.schemas import JobRequest
from api.services import Services

_PIECE = 256 * 1024  # bytes that are counted at a time
# What a small body may take in its own slot: an honest one takes a tenth of it. Then it waits among the large ones.
_SMALL_SECONDS = 1.0


@asynccontextmanager
async def received(
    request: Request, services: Services, client: KnownClient, data_key: bytes, schema: type[JobRequest]
) -> AsyncIterator[UncheckedRequest]:
    """The request's body, received whole. Its files, but the sealed one if it is moved away, end with the context.

    Announced bytes are refused before any is read where fewer are left. What is counted is what arrives. Raises
    BodyTooLarge, UnsupportedMediaType, QuotaExceeded, or OSError.
    """
    settings, blobs = services.settings, services.blobs
    announced = _announced(request, settings.max_body_bytes)
    with services.uploads.admitted(client):
        await require_left(request, services, client, bytes_policy(client.limits), max(1, announced))
        lift_deadline(request)
        sealed, notes, spool = blobs.scratch_file(), blobs.scratch_file(), Spool(blobs.scratch_file())
        try:
            body = await _receive(request, services, client, spool)
            yield UncheckedRequest(
                schema=schema,
                content_type=request.headers.get("content-type", ""),
                body=body,
                limits=CheckLimits.of(settings, client.limits),
                catalog=services.catalog,
                data_key=data_key,
                sealed=sealed,
                notes=notes,
            )
        finally:
            spool.close()
            sealed.unlink(missing_ok=True)
            notes.unlink(missing_ok=True)


async def checked_in_turn(
    request: Request, services: Services, client: KnownClient, check: Check[Checked], unchecked: UncheckedRequest
) -> Checked:
    """Waits for the client's turn, then checks as `check_in_process` does.

    A small body that proves to be dear begins again among the large ones. Raises QuotaExceeded for a client that has no
    pixels or no processor time left, before its check begins.
    """
    turns, most = services.checks, services.settings.check_processor_seconds
    if unchecked.body.size <= SMALL_BODY and most > _SMALL_SECONDS:
        try:
            async with turns.small.turn(client.id):
                return await _checked(request, services, client, check, unchecked, _SMALL_SECONDS)
        except TooDear:
            unchecked.sealed.unlink(missing_ok=True)
            unchecked.notes.unlink(missing_ok=True)
    try:
        async with turns.large.turn(client.id):
            await keep_spare()  # a small one that comes meanwhile begins at once
            return await _checked(request, services, client, check, unchecked, most)
    except TooDear:
        raise InvalidRequest.of([FieldError(f"takes more than {most:g} s of processor time to check")]) from None


async def _checked(
    request: Request,
    services: Services,
    client: KnownClient,
    check: Check[Checked],
    unchecked: UncheckedRequest,
    seconds: float,
) -> Checked:
    """Checks in a turn. What it costs counts, also for a client that has hung up, and a check refused or killed."""
    pixels, processor = pixels_policy(client.limits), processor_policy(client.limits)
    for policy in (pixels, processor):
        await require_left(request, services, client, policy)
    cost, decoded = CheckCost(), None
    try:
        checked = await check_in_process(check, unchecked, request, seconds, cost)
    finally:
        with anyio.CancelScope(shield=True):
            await count(request, services, client, processor, math.ceil(cost.seconds * 1000))
            decoded = await count(request, services, client, pixels, cost.pixels)
    refuse_exceeded(decoded)
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


async def _receive(request: Request, services: Services, client: KnownClient, spool: Spool) -> SpooledBody:
    """Receives the body. All that arrives counts, a piece at a time before it is written, and also if it breaks off.

    Raises BodyTooLarge as soon as more has arrived than a body may have, and QuotaExceeded as soon as the quota of
    bytes, which all uploads of the client share, is spent.
    """
    most, policy = services.settings.max_body_bytes, bytes_policy(client.limits)
    arrived = counted = 0

    async def count_arrived() -> Remaining | None:
        nonlocal counted
        units, counted = arrived - counted, arrived
        return await count(request, services, client, policy, units) if units else None

    try:
        async for chunk in request.stream():
            arrived += len(chunk)
            if arrived > most:
                raise _too_large(most)
            if arrived - counted >= _PIECE:
                refuse_exceeded(await count_arrived())
            spool.write(chunk)
        refuse_exceeded(await count_arrived())
    finally:
        with anyio.CancelScope(shield=True):
            await count_arrived()
    return spool.finish()
