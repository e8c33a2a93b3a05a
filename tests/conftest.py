"""The services that tests use: one real Postgres and one real Redis per session, empty for every test."""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from hypothesis import settings as hypothesis_settings
from pydantic import SecretStr

from jobs.database import SessionFactory, make_engine
from jobs.database import session_factory as make_session_factory
from jobs.settings import Settings
from local.postgres import EmbeddedPostgres
from local.redis import EmbeddedRedis
from migrations.roles import grant
from migrations.runner import upgrade
from tests.roles import ROLES
from tests.serving import loop_in_a_thread

# Examples are the same every time, so that a failure doesn't depend on luck. A slow example is no failure.
hypothesis_settings.register_profile("vgid", deadline=None, derandomize=True)
hypothesis_settings.load_profile("vgid")

_TEMPLATE = "vgid_template"
SECRET_KEY = base64.b64encode(bytes(range(32))).decode()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with many slow tests come first: each is one worker's, and the others would wait for a late one."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that knows nobody."""
    from tests.vgid_core.support.tiny import save_tiny_model  # imported late: most tests need no torch

    return save_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def knowing_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, taught some people by heart."""
    from tests.vgid_core.support.knowing import save_knowing_model

    return save_knowing_model(tiny_folder, tmp_path_factory.mktemp("knowing") / "model")


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A server without crash safety. It holds one migrated, empty database, from which each test's own is copied."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), durable=False)
    try:
        server.start()
        with server.connect() as connection:
            connection.execute(f"CREATE DATABASE {_TEMPLATE}")
        upgrade(server.url_of(_TEMPLATE))
        for room, role in ROLES.items():
            grant(server.url_of(_TEMPLATE), room, role)
        yield server
    finally:
        server.destroy()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def database_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A fresh database with every migration applied and no rows."""
    name = f"test_{uuid.uuid4().hex}"
    with postgres.connect() as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
    yield postgres.url_of(name)
    with postgres.connect() as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def redis_url(redis_server: EmbeddedRedis) -> str:
    """An empty Redis."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url


@pytest.fixture
def settings(database_url: str, redis_url: str, tmp_path: Path) -> Settings:
    """Settings for one test's own services. The catalog is empty. A test that needs a model writes it."""
    catalog = tmp_path / "catalog.toml"
    catalog.touch()
    return Settings(
        environment="development",
        database_url=database_url,
        redis_url=redis_url,
        blob_dir=tmp_path / "blobs",
        catalog=catalog,
        secret_key=SecretStr(SECRET_KEY),
        signing_keys=tmp_path / "signing-keys",
    )


@pytest.fixture
def session_factory(settings: Settings) -> Iterator[SessionFactory]:
    engine = make_engine(settings)
    yield make_session_factory(engine)
    engine.dispose()


@pytest.fixture(scope="session")
def server_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """The event loop of all servers of the session."""
    with loop_in_a_thread() as loop:
        yield loop
