"""The API's and the workers' database roles: for every table it is decided what each may do, and no more can be."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import psycopg
import pytest
from sqlalchemy import make_url
from typer.testing import CliRunner

from jobs.settings import Settings
from jobs.tables import Base
from local.postgres import EmbeddedPostgres
from migrations.commands import database
from migrations.roles import RIGHTS, RoleUnusable, Room, grant
from tests.roles import url_of_role

KEY = "INSERT INTO signing_keys (id, statement_key, folder_key) VALUES ('a', 'b', 'c')"
# What an API that somebody has taken over must not be able to do. None of it needs a row.
NOT_THE_APIS = (
    KEY,
    "UPDATE signing_keys SET revoked_at = NULL",
    "DELETE FROM signing_keys",
    "TRUNCATE signing_keys",
    "INSERT INTO job_evidence (job_id, document) VALUES (gen_random_uuid(), '{}')",
    "UPDATE job_evidence SET document = '{}'",
    "UPDATE artifacts SET sha256 = ''",
    "DELETE FROM artifacts",
    "UPDATE releases SET state = 'current'",
    "DELETE FROM release_jobs",
    "DELETE FROM marks",
    "SELECT * FROM withheld_pairs",
    "UPDATE job_metrics SET value = 0",
    "DELETE FROM job_events",
    "UPDATE jobs SET receipt = '{}'",
    "UPDATE jobs SET outcome = 'forgotten'",
    "UPDATE jobs SET verdict = '{}'",
    "UPDATE jobs SET attempt_token = gen_random_uuid()",
    "UPDATE jobs SET client_id = gen_random_uuid()",
    "DELETE FROM jobs",
    "UPDATE replay_sets SET receipt = '{}'",
    "UPDATE replay_sets SET expires_at = now()",
    "INSERT INTO api_keys (id, client_id, prefix, secret_hash) VALUES (gen_random_uuid(), gen_random_uuid(), '', '')",
    "UPDATE api_keys SET revoked_at = NULL",
    "UPDATE clients SET limits = '{}'",
    "UPDATE alembic_version SET version_num = ''",
    "ALTER TABLE signing_keys OWNER TO CURRENT_USER",
    "ALTER TABLE jobs DROP CONSTRAINT ck_jobs_key_until_end",
    "CREATE TABLE mine (id int)",
    "SET ROLE postgres",
    "CREATE ROLE another",
)
NOT_A_WORKERS = (
    KEY,
    "UPDATE signing_keys SET revoked_at = NULL",
    "DELETE FROM signing_keys",
    "SELECT secret_hash FROM api_keys",
    "UPDATE api_keys SET revoked_at = NULL",
    "UPDATE job_evidence SET document = '{}'",
    "UPDATE artifacts SET sha256 = ''",
    "DELETE FROM marks",
    "DELETE FROM jobs",
    "DELETE FROM releases",
    "SET ROLE postgres",
)


def run(url: str, statement: str) -> None:
    """Runs the statement as the URL's role."""
    with psycopg.connect(
        make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    ) as connection:
        connection.execute(statement)  # type: ignore[call-overload]  # ours, not a client's


def refused(url: str, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        run(url, statement)


def test_every_room_has_an_answer_for_every_table() -> None:
    tables = {*Base.metadata.tables, "alembic_version"}
    assert {room: set(rights) for room, rights in RIGHTS.items()} == dict.fromkeys(Room, tables)


@pytest.mark.parametrize("statement", NOT_THE_APIS)
def test_an_api_that_is_taken_over_can_not(database_url: str, statement: str) -> None:
    refused(url_of_role(database_url, Room.api), statement)


@pytest.mark.parametrize("statement", NOT_A_WORKERS)
def test_a_worker_can_not(database_url: str, statement: str) -> None:
    refused(url_of_role(database_url, Room.worker), statement)


@pytest.fixture
def role(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The name of a role that there isn't yet. Rights to a test's database go with that database."""
    name = f"role_{uuid.uuid4().hex}"
    yield name
    with postgres.connect() as connection:
        connection.execute(f"DROP ROLE IF EXISTS {name}")


@pytest.fixture
def url_of(database_url: str) -> Callable[[str], str]:
    return lambda role: make_url(database_url).set(username=role).render_as_string(hide_password=False)


@pytest.fixture
def rights_go_first(role: str, database_url: str) -> Iterator[None]:
    """Takes the role's rights in the test's database at its end, so that the role can go."""
    yield
    run(database_url, f"DROP OWNED BY {role}")


@pytest.mark.usefixtures("rights_go_first")
def test_granting_again_takes_back_what_was_granted_beside(
    role: str, database_url: str, url_of: Callable[[str], str]
) -> None:
    grant(database_url, Room.api, role)
    run(database_url, f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    run(database_url, f"GRANT UPDATE (revoked_at) ON signing_keys TO {role}")
    run(url_of(role), "UPDATE signing_keys SET revoked_at = NULL")

    grant(database_url, Room.api, role)

    refused(url_of(role), KEY)
    refused(url_of(role), "UPDATE signing_keys SET revoked_at = NULL")
    run(url_of(role), "SELECT FROM signing_keys")


def test_a_role_that_could_do_more_is_refused(role: str, database_url: str) -> None:
    with pytest.raises(RoleUnusable, match="superuser"):
        grant(database_url, Room.api, "postgres")
    run(database_url, f"CREATE ROLE {role} LOGIN IN ROLE pg_write_all_data")
    with pytest.raises(RoleUnusable, match="could make a signing key valid"):
        grant(database_url, Room.api, role)


def test_everybodys_right_to_write_keys_is_a_fault(role: str, database_url: str) -> None:
    run(database_url, "GRANT INSERT ON signing_keys TO PUBLIC")
    with pytest.raises(RoleUnusable, match="could make a signing key valid"):
        grant(database_url, Room.api, role)


@pytest.mark.usefixtures("rights_go_first")
def test_the_command_makes_roles_with_passwords_that_it_doesnt_show(
    role: str, settings: Settings, postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("migrations.commands.settings_or_exit", lambda: settings)
    monkeypatch.setenv("VGID_API_ROLE_PASSWORD", "of the API")
    for _ in range(2):  # as at every start of Compose
        done = CliRunner().invoke(database, ["upgrade", "--api-role", role])
        assert (done.exit_code, done.output) == (0, "the database is up to date\n")
    with postgres.connect() as connection:
        found = connection.execute("SELECT rolpassword FROM pg_authid WHERE rolname = %s", [role]).fetchone()
    assert found is not None
    assert found[0].startswith("SCRAM-SHA-256$")


def test_the_command_refuses_a_role_that_could_do_more(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("migrations.commands.settings_or_exit", lambda: settings)
    done = CliRunner().invoke(database, ["upgrade", "--worker-role", "postgres"])
    assert done.exit_code == 1
    assert "could make a signing key valid" in done.stderr
