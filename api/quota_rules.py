"""Charges every request with a key to its client's quota."""

from __future__ import annotations

import anyio.to_thread
from fastapi import Request

from api.known_clients import KnownClient
from api.quotas import Policy, request_policy
from api.services import Caller, CallerDep, Services, invalid_key


async def charge_request(request: Request, caller: CallerDep) -> None:
    """Counts the request. Raises QuotaExceeded. An invalid key has no quota: the route refuses it."""
    client = await known_client(caller)
    if client is not None:
        await charge(request, caller.services, client, request_policy(client.limits))


async def known_client(caller: Caller) -> KnownClient | None:
    """The caller's client and limits; None for an invalid key."""
    clients = caller.services.clients
    return clients.remembered(caller.secret) or await anyio.to_thread.run_sync(clients.read, caller.secret)


async def valid_client(caller: Caller) -> KnownClient:
    """The caller's client and limits as they are now. Raises Unauthenticated for a key that isn't valid now."""
    client = await anyio.to_thread.run_sync(caller.services.clients.read, caller.secret)
    if client is None:
        raise invalid_key()
    return client


async def charge(
    request: Request, services: Services, client: KnownClient, policy: Policy, units: int = 1, *, spent: bool = True
) -> None:
    """Counts the units as `Quotas.charge` does, and has the answer say what is left. Raises QuotaExceeded."""
    counted = await services.quotas.charge(client.id, policy, units, spent=spent)
    if counted is None:
        return
    request.scope["state"].setdefault("quotas", []).append(counted)
    if counted.exceeded:
        raise counted.refusal()
