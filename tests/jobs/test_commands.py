"""The operator's commands `vgid keys` and `vgid database`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from jobs import commands
from jobs.clients import access
from jobs.clients.limits import ClientLimits
from jobs.database import SessionFactory
from jobs.lines.rebuilds import CLIENT as REBUILDS
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
        assert access.authenticate(s, secret) == (client.id, frozenset())

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
def test_a_keys_rights_are_given_taken_and_listed(session_factory: SessionFactory) -> None:
    secrets = [
        RUNNER.invoke(commands.keys, ["create", "--client", "acme", *typed]).stdout.strip()
        for typed in ((), ("--right", "serve", "--right", "audit"))
    ]

    def rights() -> list[set[str]]:
        with session_factory() as s:
            holders = [access.authenticate(s, secret) for secret in secrets]
        return [set() if holder is None else {right.value for right in holder.rights} for holder in holders]

    assert rights() == [set(), {"audit", "serve"}]
    plain, other = RUNNER.invoke(commands.keys, ["list"]).stdout.splitlines()
    assert plain.endswith("valid  acme")
    assert other.endswith("valid (audit, serve)  acme")

    def change(prefix: str, *typed: str) -> tuple[int, str]:
        done = RUNNER.invoke(commands.keys, ["rights", prefix, *typed])
        return done.exit_code, done.stdout.strip()

    first, second = plain.split()[0], other.split()[0]
    assert change(first) == (0, f"{first}: no rights")
    assert change(first, "--give", "serve") == (0, f"{first}: serve")
    assert change(second, "--take", "serve", "--take", "audit") == (0, f"{second}: no rights")
    assert rights() == [{"serve"}, set()]
    assert change(first, "--give", "audit", "--take", "audit")[0] == 2
    assert change(first, "--give", "rule")[0] == 2
    RUNNER.invoke(commands.keys, ["revoke", first])
    assert (change(first, "--give", "audit")[0], change("vgid_unknown")[0]) == (1, 1)


@pytest.mark.usefixtures("environment")
def test_a_client_needs_a_name() -> None:
    assert RUNNER.invoke(commands.keys, ["create", "--client", " "]).exit_code == 2


@pytest.mark.usefixtures("environment")
def test_limits_are_shown_changed_and_go_back_to_their_defaults(session_factory: SessionFactory) -> None:
    RUNNER.invoke(commands.keys, ["create", "--client", "acme"])

    def limits(*changes: str) -> str:
        options = [option for change in changes for option in ("--set", change)]
        result = RUNNER.invoke(commands.keys, ["limits", "--client", "acme", *options])
        assert result.exit_code == 0, result.output
        return result.stdout

    def stored() -> dict[str, int]:
        with session_factory.begin() as s:
            client = access.find_client(s, "acme")
            assert client is not None
            assert access.limits_of(client).differing() == client.limits
            return client.limits

    assert [line.split()[:2] for line in limits().splitlines()] == [
        [name, str(default)] for name, default in ClientLimits().model_dump().items()
    ]
    assert stored() == {}
    assert f"{'running_jobs':26}            4  jobs that run" in limits("running_jobs=4", "max_priority = -3")
    assert stored() == {"running_jobs": 4, "max_priority": -3}
    assert "(default 2)" in limits("queued_jobs=7")
    limits("running_jobs=2")
    assert stored() == {"max_priority": -3, "queued_jobs": 7}


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("running_jobs=many", "--set running_jobs: Input should be a valid integer"),
        ("running_jobs=-1", "--set running_jobs: Input should be greater than or equal to 0"),
        ("max_priority=11", "--set max_priority: Input should be less than or equal to 10"),
        ("runing_jobs=4", "--set runing_jobs: no such limit; there are requests_per_minute, "),
        ("running_jobs", "takes NAME=VALUE"),
    ],
)
def test_a_limit_that_cant_be_taken_is_named_and_nothing_changes(
    session_factory: SessionFactory, change: str, complaint: str
) -> None:
    RUNNER.invoke(commands.keys, ["create", "--client", "acme"])
    result = RUNNER.invoke(commands.keys, ["limits", "--client", "acme", "--set", "queued_jobs=7", "--set", change])
    assert result.exit_code == 2
    assert complaint in result.stderr
    with session_factory.begin() as s:
        client = access.find_client(s, "acme")
    assert client is not None
    assert client.limits == {}


@pytest.mark.usefixtures("environment")
def test_limits_of_nobody_are_neither_shown_nor_made() -> None:
    result = RUNNER.invoke(commands.keys, ["limits", "--client", "nobody", "--set", "running_jobs=4"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no client has this name" in result.stderr


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


def test_the_name_of_rebuilds_is_taken() -> None:
    assert CliRunner().invoke(commands.keys, ["create", "--client", REBUILDS]).exit_code == 2
