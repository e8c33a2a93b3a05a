"""The command `vgid keys`, for API keys, clients and signing keys in the database that VGID_DATABASE_URL names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer
from pydantic import ValidationError

from jobs.clients import access
from jobs.clients.limits import ClientLimits
from jobs.command_session import NOT_CONFIGURED, session, settings_or_exit
from jobs.lines.rebuilds import CLIENT as REBUILDS
from jobs.signing import keys as signing_keys
from jobs.tables import Right

keys = typer.Typer(no_args_is_help=True, help="API keys: create, list and revoke; limits of their clients.")
signing = typer.Typer(no_args_is_help=True, help="Keys that sign statements: create, list, retire and revoke.")
keys.add_typer(signing, name="signing")


@keys.command()
def create(
    client: Annotated[str, typer.Option(help="Name of the client; created if it is new.")],
    right: Annotated[
        list[Right] | None, typer.Option(help="What it may do beyond the client's own jobs. Repeatable.")
    ] = None,
) -> None:
    """Print the secret of a new API key. It can't be shown again."""
    name = client.strip()
    if not name:
        raise typer.BadParameter("the client needs a name")
    if name == REBUILDS:
        raise typer.BadParameter("rebuilds are ordered under this name: choose another one")
    if not name.isprintable():
        raise typer.BadParameter("the client's name holds characters that can't be seen")
    with session() as s:
        owner = access.find_client(s, name) or access.create_client(s, name)
        _, secret = access.create_key(s, owner, right or ())
    typer.echo(secret)


@keys.command("list")
def list_() -> None:
    """List every key: its prefix, creation, revocation, rights and client."""
    with session() as s:
        rows = access.list_keys(s)
    for key, client in rows:
        revoked = f"revoked {key.revoked_at:%Y-%m-%d %H:%M} UTC" if key.revoked_at else "valid"
        rights = f" ({_in_words(map(Right, key.rights))})" if key.rights else ""
        typer.echo(f"{key.prefix}  {key.created_at:%Y-%m-%d %H:%M} UTC  {revoked}{rights}  {client.name}")


@keys.command()
def rights(
    prefix: Annotated[str, typer.Argument(help="The key's prefix, as `vgid keys list` shows it.")],
    give: Annotated[list[Right] | None, typer.Option(help="A right that it gets. Repeatable.")] = None,
    take: Annotated[list[Right] | None, typer.Option(help="A right that it loses. Repeatable.")] = None,
) -> None:
    """Show what a key may do beyond its client's own jobs, and change it. The key's next request heeds it."""
    if both := set(give or ()) & set(take or ()):
        raise typer.BadParameter(f"{_in_words(both)} is given and taken")
    with session() as s:
        known = access.change_rights(s, prefix, give or (), take or ())
    if known is None:
        typer.echo(f"no valid key has the prefix {prefix}", err=True)
        raise typer.Exit(1)
    typer.echo(f"{prefix}: {_in_words(known)}")


@keys.command()
def revoke(prefix: Annotated[str, typer.Argument(help="The key's prefix, as `vgid keys list` shows it.")]) -> None:
    """Make a key useless from now on."""
    with session() as s:
        found = access.revoke_key(s, prefix)
    if not found:
        typer.echo(f"no valid key has the prefix {prefix}", err=True)
        raise typer.Exit(1)
    typer.echo(f"revoked {prefix}")


@keys.command()
def limits(
    client: Annotated[str, typer.Option(help="Name of the client.")],
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="E.g. running_jobs=4. Repeatable.")
    ] = None,
) -> None:
    """Show what a client may use, and change it. Claims heed a change at once, requests within half a minute."""
    values = dict(_named_value(text) for text in changes or ())
    with session() as s:
        owner = access.find_client(s, client.strip())
        if owner is None:
            typer.echo("no client has this name; `vgid keys list` shows them", err=True)
            raise typer.Exit(1)
        known = access.limits_of(owner)
        if values:
            known = _changed(known, values)
            access.set_limits(s, owner, known)
    differing = known.differing()
    for name, about in ClientLimits.model_fields.items():
        default = f" (default {about.default})" if name in differing else ""
        typer.echo(f"{name:26}  {getattr(known, name):>11}  {about.description}{default}")


_KeyId = Annotated[str, typer.Argument(metavar="KEY", help="The first digits of the key's id.")]


@signing.command("create")
def create_signing_key() -> None:
    """Make a signing key in VGID_SIGNING_KEYS and print its id. From now on it signs."""
    root = settings_or_exit().signing_keys
    if root is None:
        typer.echo("VGID_SIGNING_KEYS isn't set: it names the folder of the private keys", err=True)
        raise typer.Exit(NOT_CONFIGURED)
    try:
        with session() as s:
            key = signing_keys.create(s, root)
    except OSError as error:
        typer.echo(f"the private keys can't be written to VGID_SIGNING_KEYS: {error.strerror}", err=True)
        raise typer.Exit(1) from None
    typer.echo(key.id)


@signing.command("list")
def list_signing_keys() -> None:
    """List every signing key: id, creation, and whether it still signs."""
    with session() as s:
        rows = signing_keys.list_keys(s)
    for key in rows:
        state = f"retired {key.retired_at:%Y-%m-%d %H:%M} UTC" if key.retired_at else "valid"
        state = f"revoked {key.revoked_at:%Y-%m-%d %H:%M} UTC" if key.revoked_at else state
        typer.echo(f"{key.id}  {key.created_at:%Y-%m-%d %H:%M} UTC  {state}")


@signing.command()
def retire(key: _KeyId) -> None:
    """End a key's signing. What it signed before still counts. The only valid key can't be retired."""
    with session() as s:
        if len(signing_keys.valid_keys(s)) == 1:
            typer.echo("it would leave no key that signs: run `vgid keys signing create` first", err=True)
            raise typer.Exit(1)
        _require_found(signing_keys.retire(s, key), key)
    typer.echo(f"retired {key}")


@signing.command("revoke")
def revoke_signing_key(key: _KeyId) -> None:
    """Make everything that a key has signed count no more, because somebody else may hold it."""
    with session() as s:
        _require_found(signing_keys.revoke(s, key), key)
    typer.echo(f"revoked {key}")


def _in_words(rights: Iterable[Right]) -> str:
    return ", ".join(sorted(rights)) or "no rights"


def _require_found(found: bool, key: str) -> None:
    if not found:
        typer.echo(
            f"no such key, or several, with an id that begins with {key}; see `vgid keys signing list`", err=True
        )
        raise typer.Exit(1)


def _named_value(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise typer.BadParameter("takes NAME=VALUE", param_hint="--set")
    return name.strip(), value.strip()


def _changed(known: ClientLimits, values: dict[str, str]) -> ClientLimits:
    """`known` with these values. Ends the command with a line for each that can't be taken."""
    try:
        given = ClientLimits.model_validate_strings(values)
    except ValidationError as error:
        for problem in error.errors():
            name = ".".join(str(part) for part in problem["loc"])
            unknown = f"no such limit; there are {', '.join(ClientLimits.model_fields)}"
            reason = unknown if problem["type"] == "extra_forbidden" else problem["msg"]
            typer.echo(f"--set {name}: {reason}", err=True)
        raise typer.Exit(NOT_CONFIGURED) from None
    return known.model_copy(update={name: getattr(given, name) for name in values})
