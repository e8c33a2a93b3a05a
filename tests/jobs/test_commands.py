"""The operator's commands `vgid keys` and `vgid database`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from jobs import access, commands
from jobs.database import SessionFactory
from jobs.settings import Settings, get_settings
from migrations.commands import database

RUNNER = CliRunner()


@pytest.fixture
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    values = settings.model_dump(include={"environment", "database_url", "redis_url", "blob_dir", "catalog"})
    values["secret_key"] = settings.secret_key.get_secret_value()
    for name, value in values.items():
        monkeypatch.setenv(f"VGID_{name.upper()}", str(value))
    get_settings.cache_clear()
    yield monkeypatch
    get_settings.cache_clear()


@pytest.mark.usefixtures("environment")
def test_a_key_is_created_listed_and_revoked(session_factory: SessionFactory) -> None:
    created = RUNNER.invoke(commands.keys, ["create", "--client", "acme"])
    assert created.exit_code == 0, created.output
    secret = created.stdout.strip()
    with session_factory.begin() as s:
        client = access.find_client(s, "acme")
        assert client is not None
        assert access.authenticate(s, secret) == client.id

    RUNNER.invoke(commands.keys, ["create", "--client", "acme"])
    listed = RUNNER.invoke(commands.keys, ["list"]).stdout
    assert listed.count("valid  acme") == 2
    assert secret not in listed

    prefix = listed.split()[0]
    assert RUNNER.invoke(commands.keys, ["revoke", prefix]).stdout == f"revoked {prefix}\n"
    again = RUNNER.invoke(commands.keys, ["revoke", prefix])
    assert (again.exit_code, again.stderr) == (1, f"no valid key has the prefix {prefix}\n")
    assert "revoked" in RUNNER.invoke(commands.keys, ["list"]).stdout


@pytest.mark.usefixtures("environment")
def test_a_client_needs_a_name_that_can_be_seen() -> None:
    for name in (" ", "acme\u202eemca", "acme\x1b[2J"):
        assert RUNNER.invoke(commands.keys, ["create", "--client", name]).exit_code == 2


@pytest.mark.usefixtures("environment")
def test_upgrading_the_database_twice_changes_nothing() -> None:
    for _ in range(2):
        result = RUNNER.invoke(database, ["upgrade"])
        assert (result.exit_code, result.stdout) == (0, "the database is up to date\n")


def test_missing_settings_are_named(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("VGID_CATALOG")
    environment.setenv("VGID_SECRET_KEY", "hunter2")
    result = RUNNER.invoke(commands.keys, ["list"])
    assert result.exit_code == 2
    assert "VGID_CATALOG: Field required" in result.stderr
    assert "VGID_SECRET_KEY: Value error, must be base64 of exactly 32 bytes" in result.stderr
    assert "hunter2" not in result.output


def test_an_unreachable_database_gives_one_line(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("VGID_DATABASE_URL", "postgresql://vgid:hunter2@127.0.0.1:1/vgid")
    for app, arguments in ((commands.keys, ["list"]), (database, ["upgrade"])):
        result = RUNNER.invoke(app, arguments)
        assert (result.exit_code, result.stderr) == (1, "the database named by VGID_DATABASE_URL doesn't answer\n")
