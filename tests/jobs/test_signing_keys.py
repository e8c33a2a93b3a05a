"""Signing keys: the newest valid one signs, old ones stay for verifiers, files that aren't a key's sign nothing."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from jobs import commands
from jobs.database import SessionFactory
from jobs.settings import Settings
from jobs.signing import keys
from jobs.signing.keys import SigningKeyMissing
from tests.jobs.test_commands import environment
from tests.waiting import eventually
from vgid_verify.keys import UnusableKey

__all__ = ["environment"]

RUNNER = CliRunner()


@pytest.fixture
def root(settings: Settings) -> Path:
    assert settings.signing_keys is not None
    return settings.signing_keys


@pytest.fixture
def make(session_factory: SessionFactory, root: Path) -> Callable[[], str]:
    def made() -> str:
        with session_factory.begin() as s:
            return keys.create(s, root).id

    return made


def signing(sessions: SessionFactory, root: Path | None) -> tuple[str, datetime]:
    with sessions.begin() as s:
        key, at = keys.private_key(s, root)
    return key.keyid, at


def test_the_newest_valid_key_signs(session_factory: SessionFactory, root: Path, make: Callable[[], str]) -> None:
    first, second = make(), make()
    assert signing(session_factory, root)[0] == second
    with session_factory.begin() as s:
        assert keys.retire(s, second[:8])
    assert signing(session_factory, root)[0] == first
    with session_factory.begin() as s:
        assert keys.revoke(s, first)
    with pytest.raises(SigningKeyMissing, match="vgid keys signing create"):
        signing(session_factory, root)


def test_a_signatures_time_lies_within_its_keys(
    session_factory: SessionFactory, root: Path, make: Callable[[], str]
) -> None:
    keyid = make()
    _, at = signing(session_factory, root)
    with session_factory.begin() as s:
        keys.retire(s, keyid)
    with session_factory() as s:
        public = keys.key_file(s).key(keyid)
    public.require_valid_at(at)
    assert public.valid_until is not None
    assert public.valid_from < at < public.valid_until


def test_a_key_is_retired_after_the_signature_that_is_being_made(
    session_factory: SessionFactory, root: Path, make: Callable[[], str]
) -> None:
    keyid = make()

    def retire() -> None:
        with session_factory.begin() as s:
            keys.retire(s, keyid)

    def somebody_waits() -> int:
        """Looked up in a session of its own, since within one transaction Postgres gives the same answer again."""
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        with session_factory() as other:
            return int(other.execute(text(query)).scalar_one())

    with ThreadPoolExecutor(1) as operator, session_factory() as s:
        _, at = keys.private_key(s, root)
        retiring = operator.submit(retire)
        eventually(somebody_waits)
        assert not retiring.done()
        s.rollback()
        retiring.result(timeout=20)
    with session_factory() as s:
        keys.key_file(s).key(keyid).require_valid_at(at)


def test_a_key_is_its_owners_alone(root: Path, make: Callable[[], str]) -> None:
    folder = root / make()
    assert [path.name for path in root.iterdir()] == [folder.name]
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == {
        "folders.pem": 0o600,
        "statements.pem": 0o600,
    }
    assert root.stat().st_mode & 0o077 == 0


def test_no_private_half_is_shown(session_factory: SessionFactory, make: Callable[[], str]) -> None:
    keyid = make()
    with session_factory() as s:
        shown = keys.key_file(s).model_dump_json()
    assert keyid in shown
    assert "PRIVATE" not in shown
    assert "BEGIN PUBLIC KEY" in shown
    with session_factory() as s, pytest.raises(UnusableKey, match="isn't in the key file"):
        keys.key_file(s).key("0" * 64)


@pytest.mark.parametrize("name", ["statements.pem", "folders.pem"])
def test_files_of_another_key_sign_nothing(
    session_factory: SessionFactory, root: Path, make: Callable[[], str], name: str
) -> None:
    """Neither those of another key, nor none, nor what is no key at all."""
    other, newest = make(), make()
    (root / newest / "statements.pem").write_bytes((root / other / "statements.pem").read_bytes())
    with pytest.raises(SigningKeyMissing, match="aren't that key's"):
        signing(session_factory, root)
    (root / newest / "statements.pem").write_text("no key")
    with pytest.raises(SigningKeyMissing, match="can't be read"):
        signing(session_factory, root)
    (root / newest / name).unlink()
    with pytest.raises(SigningKeyMissing):
        signing(session_factory, root)


def test_a_folder_that_the_database_doesnt_know_signs_nothing(session_factory: SessionFactory, root: Path) -> None:
    with session_factory() as s:  # the commit never comes
        keys.create(s, root)
    with pytest.raises(SigningKeyMissing, match="no valid key"):
        signing(session_factory, root)
    with pytest.raises(SigningKeyMissing, match="isn't set"):
        signing(session_factory, None)


def test_the_operator_creates_lists_retires_and_revokes(
    environment: pytest.MonkeyPatch, session_factory: SessionFactory, root: Path
) -> None:
    environment.setenv("VGID_SIGNING_KEYS", str(root))

    def signing_command(*arguments: str) -> tuple[int, str]:
        done = RUNNER.invoke(commands.keys, ["signing", *arguments])
        return done.exit_code, done.output

    code, first = signing_command("create")
    first = first.strip()
    assert (code, signing(session_factory, root)[0]) == (0, first)
    assert signing_command("retire", first) == (
        1, "it would leave no key that signs: run `vgid keys signing create` first\n",
    )  # fmt: skip
    second = signing_command("create")[1].strip()
    assert signing_command("retire", first[:8]) == (0, f"retired {first[:8]}\n")
    assert signing_command("revoke", first[:8]) == (0, f"revoked {first[:8]}\n")
    assert signing_command("revoke", "zz")[0] == 1
    listed = signing_command("list")[1].splitlines()
    assert [line.split()[0] for line in listed] == [second, first]
    assert listed[0].endswith("UTC  valid")
    assert "revoked" in listed[1]


def test_creating_a_key_without_a_folder_says_what_is_missing(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("VGID_SIGNING_KEYS", raising=False)
    done = RUNNER.invoke(commands.keys, ["signing", "create"])
    assert done.exit_code == 2
    assert "VGID_SIGNING_KEYS isn't set" in done.stderr
