"""Rules for requests of every route: declared parameters alone, each once; no encoded body; within the quota."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import anyio.to_thread
from fastapi import Request

from api.limits.known_clients import KnownClient
from api.limits.quotas import Policy, Remaining, request_policy
from api.openapi import openapi_document
from api.problems import FieldError, InvalidRequest, UnsupportedMediaType
from api.services import Caller, CallerDep, Services, invalid_key


async def refuse_unknown_query(request: Request) -> None:
    """Raises InvalidRequest for a query parameter that the OpenAPI document doesn't list for this route, or lists once.

    A caller who misspells a filter or hopes for a `dry_run` would otherwise get something else than was asked for.
    """
    if not request.scope["query_string"]:
        return
    takes_several = {each["name"]: _is_list(each["schema"]) for each in _declared(request, "query")}
    given = Counter(name for name, _ in request.query_params.multi_items())
    errors = [FieldError("is not a known parameter", name=name) for name in given if name not in takes_several]
    errors += [
        FieldError("is given more than once", name=name)
        for name, times in given.items()
        if times > 1 and takes_several.get(name) is False
    ]
    if errors:
        raise InvalidRequest.of(errors)


async def refuse_repeated_header(request: Request) -> None:
    """Raises InvalidRequest for a header of the route that comes twice: one of the two would be dropped in silence."""
    given = Counter(name for name, _ in request.headers.raw)
    if len(given) == len(request.headers.raw):
        return
    declared = [each["name"] for each in _declared(request, "header")]
    repeated = [name for name in declared if given[name.lower().encode()] > 1]
    if repeated:
        raise InvalidRequest.of([FieldError("is given more than once", name=name) for name in repeated])


def refuse_encoded_body(request: Request) -> None:
    """Raises UnsupportedMediaType for a body in another encoding than its own: it would be read as garbage."""
    codings = ",".join(request.headers.getlist("content-encoding")).split(",")
    if {coding.strip().lower() for coding in codings} - {"", "identity"}:
        raise UnsupportedMediaType("Send the body without a Content-Encoding.", headers={"Accept-Encoding": "identity"})


async def charge_request(request: Request, caller: CallerDep) -> None:
    """Counts the request. Raises QuotaExceeded, or Unauthenticated for a key that isn't valid."""
    client = await known_client(caller)
    await charge(request, caller.services, client, request_policy(client.limits))


async def known_client(caller: Caller) -> KnownClient:
    """The caller's client and limits as they were lately. Raises Unauthenticated for a key that isn't valid."""
    return caller.services.clients.remembered(caller.secret) or await valid_client(caller)


async def valid_client(caller: Caller) -> KnownClient:
    """The caller's client and limits as they are now. Raises Unauthenticated for a key that isn't valid now."""
    client = await anyio.to_thread.run_sync(caller.services.clients.read, caller.secret)
    if client is None:
        raise invalid_key()
    return client


async def charge(request: Request, services: Services, client: KnownClient, policy: Policy, units: int = 1) -> None:
    """Counts the units as `count` does. Raises QuotaExceeded."""
    refuse_exceeded(await count(request, services, client, policy, units))


async def count(
    request: Request, services: Services, client: KnownClient, policy: Policy, units: int
) -> Remaining | None:
    """Counts the units as `Quotas.charge` does, and has the answer say what is left. None without Redis."""
    return _shown(request, await services.quotas.charge(client.id, policy, units))


async def require_left(
    request: Request, services: Services, client: KnownClient, policy: Policy, units: int = 1
) -> None:
    """Counts nothing. Raises QuotaExceeded where fewer units are left; the answer says how many."""
    refuse_exceeded(_shown(request, await services.quotas.foresee(client.id, policy, units)))


def refuse_exceeded(remaining: Remaining | None) -> None:
    """Raises QuotaExceeded where more was asked for than was left."""
    if remaining is not None and remaining.exceeded:
        raise remaining.refusal()


def _shown(request: Request, remaining: Remaining | None) -> Remaining | None:
    """Puts it into the answer's headers."""
    if remaining is not None:
        request.scope["state"].setdefault("quotas", {})[remaining.policy.name] = remaining
    return remaining


def _declared(request: Request, place: str) -> list[dict[str, Any]]:
    """The route's parameters in the query, or the header."""
    method = "get" if request.method == "HEAD" else request.method.lower()
    operations = openapi_document(request.app)["paths"].get(request.scope["route"].path_format, {})
    declared = operations.get(method, {}).get("parameters", ())
    return [each for each in declared if each["in"] == place]


def _is_list(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") == "array" or any(_is_list(choice) for choice in schema.get("anyOf", ()))
