"""Embedded Postgres and Redis: they start, keep what they should, and don't outlive the process that started them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from local.postgres import EmbeddedPostgres
from local.redis import EmbeddedRedis
from tests.processes import has_ended
from tests.waiting import eventually


@pytest.fixture
def postgres_here(tmp_path: Path):
    server = EmbeddedPostgres(tmp_path / "postgres", durable=False)
    yield server
    server.destroy()


def test_postgres_keeps_its_data_over_a_stop_and_a_kill(postgres_here: EmbeddedPostgres):
    postgres_here.start()
    with postgres_here.connect("vgid") as connection:
        connection.execute("CREATE TABLE kept (n int)")
    postgres_here.stop()

    postgres_here.start()
    postgres_here.process.kill()
    postgres_here.process.wait()

    postgres_here.start()
    assert ask(postgres_here, "SELECT count(*) FROM kept", "vgid") == 0


def test_postgres_never_runs_as_root(postgres_here: EmbeddedPostgres):
    postgres_here.start()
    assert 0 not in psutil.Process(postgres_here.process.pid).uids()


def test_postgres_listens_on_its_private_socket_only(postgres_here: EmbeddedPostgres):
    postgres_here.start()
    assert "host=/" in postgres_here.url
    assert psutil.Process(postgres_here.process.pid).net_connections("inet") == []


def test_a_lock_file_with_a_reused_process_id_is_ignored(postgres_here: EmbeddedPostgres):
    postgres_here.start()
    data = Path(ask(postgres_here, "SHOW data_directory"))
    postgres_here.process.kill()
    postgres_here.process.wait()
    lines = (data / "postmaster.pid").read_text().split("\n")
    (data / "postmaster.pid").write_text("\n".join([str(os.getpid()), *lines[1:]]))

    postgres_here.start()

    assert ask(postgres_here, "SELECT 1") == 1


def test_redis_needs_its_password_and_loses_its_data_over_a_restart(tmp_path: Path):
    with EmbeddedRedis(tmp_path) as server, redis.Redis.from_url(server.url) as client:
        client.set("a", "b")
        unseen_face = redis.Redis(port=server.port, retry=Retry(NoBackoff(), 0))
        with unseen_face, pytest.raises(redis.AuthenticationError):
            unseen_face.ping()
        url = server.url
        server.stop()
        server.start()
        assert server.url == url
        assert client.get("a") is None


_PARENT = """
import sys, signal
from pathlib import Path
from local.postgres import EmbeddedPostgres
from local.redis import EmbeddedRedis
folder = Path(sys.argv[1])
postgres, redis = EmbeddedPostgres(folder / "p", durable=False), EmbeddedRedis(folder / "r")
postgres.start(); redis.start()
print(postgres.process.pid, redis.process.pid, flush=True)
signal.pause()
"""


def test_killing_the_parent_ends_both_servers(tmp_path: Path):
    parent = subprocess.Popen([sys.executable, "-c", _PARENT, tmp_path], stdout=subprocess.PIPE, text=True)
    servers = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
    assert all(server.is_running() for server in servers)

    parent.kill()
    parent.communicate()

    eventually(lambda: all(has_ended(server) for server in servers), seconds=10)
    again = EmbeddedPostgres(tmp_path / "p", durable=False)
    try:
        again.start()
        assert ask(again, "SELECT 1") == 1
    finally:
        again.destroy()


def ask(server: EmbeddedPostgres, question: str, database: str = "postgres"):
    with server.connect(database) as connection:
        return connection.execute(question).fetchone()[0]
