"""Settings: bad ones are refused before the service starts, and no error shows a secret."""

from __future__ import annotations

import base64
import secrets
from pathlib import Path

import pytest
from pydantic import ValidationError

from jobs.settings import DEVELOPMENT_SECRET_KEY, Settings

GOOD_KEY = base64.b64encode(bytes(range(100, 132))).decode()


def make(**changes: object) -> Settings:
    values: dict[str, object] = {
        "database_url": "postgresql://vgid:hunter2@db/vgid",
        "redis_url": "redis://:hunter3@queue:6379/0",
        "blob_dir": Path("blobs"),
        "catalog": Path("catalog.toml"),
        "secret_key": GOOD_KEY,
    }
    return Settings(**{**values, **changes})  # type: ignore[arg-type]


def test_the_environment_names_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "VGID_DATABASE_URL": "postgres://vgid@db/vgid",
        "VGID_REDIS_URL": "redis://queue",
        "VGID_BLOB_DIR": "/srv/blobs",
        "VGID_CATALOG": "/etc/vgid/catalog.toml",
        "VGID_SECRET_KEY": GOOD_KEY,
        "VGID_MAX_PAIRS": "7",
    }.items():
        monkeypatch.setenv(name, value)
    settings = Settings()  # type: ignore[call-arg]
    assert settings.environment == "production"
    assert settings.database_url == "postgresql+psycopg://vgid@db/vgid"
    assert settings.max_pairs == 7
    assert settings.secret_key_bytes == bytes(range(100, 132))


@pytest.mark.parametrize(
    "weak",
    [DEVELOPMENT_SECRET_KEY, base64.b64encode(bytes(32)).decode(), base64.b64encode(b"secret!!" * 4).decode()],
)
def test_production_refuses_a_weak_key(weak: str) -> None:
    with pytest.raises(ValidationError, match="isn't secret"):
        make(secret_key=weak)
    assert make(secret_key=weak, environment="development").secret_key.get_secret_value() == weak


@pytest.mark.parametrize("environment", ["development", "production"])
@pytest.mark.parametrize("wrong", ["", "not base64 at all!", base64.b64encode(b"short").decode(), GOOD_KEY + "AAAA"])
def test_a_short_or_malformed_key_is_refused_in_every_environment(environment: str, wrong: str) -> None:
    with pytest.raises(ValidationError, match="exactly 32 bytes"):
        make(secret_key=wrong, environment=environment)


def test_a_missing_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VGID_SECRET_KEY", raising=False)
    with pytest.raises(ValidationError, match="secret_key"):
        Settings(database_url="postgresql://db/v", redis_url="redis://q", blob_dir="b", catalog="c")  # type: ignore[call-arg, arg-type]


def test_random_keys_are_accepted() -> None:
    for _ in range(200):
        make(secret_key=base64.b64encode(secrets.token_bytes(32)).decode())


def test_no_secret_is_shown() -> None:
    shown = repr(make()) + str(make())
    assert GOOD_KEY not in shown
    assert "hunter" not in shown
    with pytest.raises(ValidationError) as caught:
        make(secret_key="hunter4", database_url="mysql://vgid:hunter2@db/vgid", redis_url="amqp://:hunter3@q")
    assert "hunter" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"database_url": "sqlite:///x.db"}, "postgresql://"),
        ({"database_url": "nonsense"}, "isn't a database URL"),
        ({"redis_url": "amqp://queue"}, "redis://"),
        ({"lease_seconds": 9, "heartbeat_seconds": 5}, "at least twice"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"environment": "staging"}, "environment"),
    ],
)
def test_unusable_settings_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make(**changes)
