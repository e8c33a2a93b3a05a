"""The database roles of the API and of the workers, each with what its queries need and no more.

The owner of the tables migrates them and runs the operator's commands. So whoever takes over the API can't make a
signing key valid, nor write what a worker has found.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from psycopg import Connection, sql
from sqlalchemy import Connection as SqlConnection
from sqlalchemy import create_engine, pool, text
from sqlalchemy.exc import ProgrammingError

from jobs.settings import normalised_url
from migrations.runner import LOCK


class RoleUnusable(Exception):
    """The role can't be made, or could do more than it is granted. The message says why."""


class Room(StrEnum):
    """Whose role it is."""

    api = "api"
    worker = "worker"


# By table. A table that isn't named can't even be read. Whoever locks rows needs the right to update a column.
_READ, _ADD, _CHANGE, _DELETE = "SELECT", "INSERT", "UPDATE", "DELETE"
RIGHTS: Mapping[Room, Mapping[str, tuple[str, ...]]] = {
    Room.api: {
        "alembic_version": (_READ,),
        "clients": (_READ,),
        "api_keys": (_READ,),
        # It files jobs, cancels them, and deletes the uploads of those that it has cancelled.
        "jobs": (
            _READ,
            _ADD,
            "UPDATE (state, cancel_requested_at, finished_at, updated_at, wrapped_data_key, inputs_deleted_at)",
        ),
        "job_events": (_READ, _ADD),
        "job_metrics": (_READ,),
        "job_evidence": (_READ,),
        "artifacts": (_READ,),
        "signing_keys": (_READ,),
        "releases": (_READ,),
        "release_jobs": (_READ,),
        "replay_sets": (_READ, "UPDATE (wrapped_key, ended_at, deleted_at)"),
        # Of an evaluation of a release it checks that the photos are the client's own.
        "marks": (_READ,),
        "withheld_pairs": (),
    },
    Room.worker: {
        "alembic_version": (_READ,),
        "clients": (_READ, _CHANGE),
        "api_keys": (),
        "jobs": (_READ, _CHANGE),
        "job_events": (_READ, _ADD),
        "job_metrics": (_READ, _ADD, _CHANGE, _DELETE),
        "job_evidence": (_READ, _ADD),
        "artifacts": (_READ, _ADD),
        "signing_keys": (_READ,),
        "releases": (_READ, _ADD, _CHANGE),
        "release_jobs": (_READ, _ADD, _CHANGE),
        "replay_sets": (_READ, _ADD, _CHANGE),
        "marks": (_READ, _ADD),
        "withheld_pairs": (_ADD,),
    },
}
_SEQUENCES = ("job_events_id_seq",)

# As a superuser, by another role, or because everybody may.
_MAKES_KEYS_VALID = text(
    "SELECT role.rolsuper OR role.rolcreaterole OR pg_has_role(role.oid, keys.relowner, 'MEMBER') "
    "OR has_table_privilege(role.oid, keys.oid, 'INSERT, UPDATE, DELETE, TRUNCATE') "
    "FROM pg_roles AS role, pg_class AS keys WHERE role.rolname = :name AND keys.oid = 'signing_keys'::regclass"
)


def grant(database_url: str, room: Room, name: str, password: str | None = None) -> None:
    """Gives the role exactly the room's rights in this database. Makes the role if there is none. Safe to repeat.

    database_url: of the tables' owner; to make a role, it must be allowed to. password: becomes the role's; None leaves
    it as it is. Raises RoleUnusable, with nothing changed, or what the database raises.
    """
    engine = create_engine(normalised_url(database_url), poolclass=pool.NullPool, hide_parameters=True)
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        _make(connection, name, password)
        _replace_rights(connection, name, RIGHTS[room])
        if connection.execute(_MAKES_KEYS_VALID, {"name": name}).scalar_one():
            why = "it is a superuser, may make roles, or is the tables' owner or a member of a role with more rights"
            raise RoleUnusable(f"the role {name} could make a signing key valid: {why}")


def _make(connection: SqlConnection, name: str, password: str | None) -> None:
    known = connection.execute(text("SELECT 1 FROM pg_roles WHERE rolname = :name"), {"name": name}).scalar()
    role = sql.Identifier(name)
    if known is None:
        try:
            _run(connection, sql.SQL("CREATE ROLE {} LOGIN").format(role))
        except ProgrammingError:
            detail = f"there is no role {name}, and this account can't make one: a superuser makes it with CREATE ROLE"
            raise RoleUnusable(detail) from None
    if password is not None:
        # Hashed here: the server's log may hold the statement.
        hashed = _driver(connection).pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256")
        _run(connection, sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, sql.Literal(hashed.decode())))


def _replace_rights(connection: SqlConnection, name: str, rights: Mapping[str, tuple[str, ...]]) -> None:
    role = sql.Identifier(name)
    for what in ("TABLES", "SEQUENCES"):
        _run(connection, sql.SQL("REVOKE ALL ON ALL {} IN SCHEMA public FROM {}").format(sql.SQL(what), role))
    _run(connection, sql.SQL("REVOKE CREATE ON SCHEMA public FROM PUBLIC, {}").format(role))
    _run(connection, sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(role))
    for table, granted in rights.items():
        for right in granted:
            on = sql.Identifier(table)
            _run(connection, sql.SQL("GRANT {} ON {} TO {}").format(sql.SQL(right), on, role))
    for sequence in _SEQUENCES:
        _run(connection, sql.SQL("GRANT USAGE ON SEQUENCE {} TO {}").format(sql.Identifier(sequence), role))


def _run(connection: SqlConnection, statement: sql.Composed) -> None:
    connection.exec_driver_sql(statement.as_string(_driver(connection)))


def _driver(connection: SqlConnection) -> Connection[object]:
    driver = connection.connection.driver_connection
    assert isinstance(driver, Connection)
    return driver
