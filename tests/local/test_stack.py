"""`vgid up` as a user runs it: it restarts what dies, and it leaves no process however it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from local.child_process import start_child
from local.demo.data import make
from local.demo_catalog import ensure_catalog
from local.home import Home
from local.postgres import EmbeddedPostgres
from tests.processes import command_line, has_ended
from tests.waiting import eventually
from vgid_client import Client, Pair, VgidError
from vgid_verify import KeyFile

pytestmark = pytest.mark.slow

_SETTINGS = {
    "VGID_WARM": "false",  # a spare process would take the test's processor time
    "VGID_LEASE_SECONDS": "3",
    "VGID_HEARTBEAT_SECONDS": "0.5",
    "VGID_REAP_SECONDS": "0.5",
    "VGID_CANCEL_GRACE_SECONDS": "2",
}


class Up:
    """One `vgid up`, started as a shell starts it."""

    def __init__(self, home: Path, *options: str) -> None:
        self.home = home
        self.output = home.parent / f"output-{uuid4().hex}.txt"
        command = [Path(sys.executable).with_name("vgid"), "up", "--home", home, *options]
        self.output.touch()
        self.process = start_child(command, log=self.output, environment={**os.environ, **_SETTINGS})

    def until_ready(self) -> Up:
        def ready() -> bool:
            assert self.process.poll() is None, self.output.read_text()
            return "Stop it with Ctrl-C" in self.output.read_text()

        eventually(ready, seconds=60)
        return self

    def client(self) -> Client:
        url = re.search(r"http://\S+", self.output.read_text())
        assert url is not None
        return Client(url[0], (self.home / "api-key").read_text().strip())

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def child(self, words: str) -> psutil.Process | None:
        """The process with these words in its command line."""
        return next((found for found in self.descendants() if words in command_line(found)), None)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "home"
    yield folder
    EmbeddedPostgres(folder / "postgres").destroy()


@pytest.fixture
def quick_demo(home: Path) -> None:
    """The demo's catalog, with an evaluation of few pairs."""
    home.mkdir(mode=0o700)
    ensure_catalog(Home(home))
    with (home / "catalog.toml").open("a") as catalog:
        catalog.write("\n[models.demo.config.evaluation]\nmax_pairs = 8\n")


@pytest.fixture
def up(home: Path) -> Iterator[Callable[..., Up]]:
    started: list[Up] = []

    def start(*options: str) -> Up:
        started.append(Up(home, *options))
        return started[-1]

    yield start
    for stack in started:
        if stack.process.poll() is None:
            stack.process.terminate()
            stack.process.wait(timeout=60)


def test_ctrl_c_ends_everything_and_the_next_start_is_a_clean_one(up: Callable[..., Up], home: Path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as for a process that a script starts in the background
    try:
        stack = up().until_ready()
    finally:
        signal.signal(signal.SIGINT, before)
    with stack.client() as client:
        assert [model.name for model in client.models()] == ["demo"]
        (key,) = KeyFile.model_validate(client.signing_keys()).keys
    assert KeyFile.load(home / "vgid-keys.json").keys == (key,)
    secret_key, api_key = (home / "secret-key").read_text(), (home / "api-key").read_text()
    for private in ("secret-key", "api-key", "environment"):
        assert (home / private).stat().st_mode & 0o077 == 0
    for words, role in (("local.serve", "vgid_api"), ("celery", "vgid_worker")):
        assert f"//{role}@" in stack.child(words).environ()["VGID_DATABASE_URL"]
    logs = {path.name: path.stat().st_mode & 0o777 for path in home.rglob("*.log")}
    assert logs == dict.fromkeys(("api.log", "worker.log", "postgres.log", "redis.log"), 0o600)
    family = stack.descendants()

    stack.process.send_signal(signal.SIGINT)

    assert stack.process.wait(timeout=30) == 0
    assert all(has_ended(process) for process in family)
    assert "Traceback" not in stack.output.read_text()
    again = up().until_ready()
    with again.client() as client:
        assert client.list_jobs().jobs == ()
        assert KeyFile.model_validate(client.signing_keys()).keys == (key,)
    assert ((home / "secret-key").read_text(), (home / "api-key").read_text()) == (secret_key, api_key)
    again.process.terminate()
    assert again.process.wait(timeout=30) == 0


@pytest.mark.usefixtures("quick_demo")
def test_a_killed_stack_leaves_no_process_and_the_next_one_ends_its_job(up: Callable[..., Up]):
    stack = up().until_ready()
    with stack.client() as client:
        job = submit_short_job(client)
        eventually(lambda: client.get(job.id).phase == "distilling", seconds=60)
    family = stack.descendants()
    assert any("worker.attempt.process" in command_line(process) for process in family)

    stack.process.kill()
    stack.process.wait()

    eventually(lambda: not [command_line(process) for process in family if not has_ended(process)], seconds=5)
    with up().until_ready().client() as client:
        done = eventually(lambda: ended(client, job.id), seconds=120)
    assert (done.state, done.attempt) == ("succeeded", 2)


@pytest.mark.usefixtures("quick_demo")
def test_an_accepted_job_outlives_all_four_services(up: Callable[..., Up]):
    stack = up().until_ready()
    services = [stack.child(words) for words in ("local.serve", "celery", "redis-server", "bin/postgres")]
    with stack.client() as client:
        job = submit_short_job(client)
        for service in services:
            service.kill()

        assert eventually(lambda: answered(lambda: ended(client, job.id)), seconds=120).state == "succeeded"

    assert stack.child("local.serve").pid != services[0].pid
    assert stack.child("celery").pid != services[1].pid


def test_the_two_printed_shell_lines_work_on_any_port(up: Callable[..., Up], home: Path):
    with ExitStack() as taken:
        with suppress(OSError):  # another process has the port, which serves as well
            taken.enter_context(socket.create_server(("127.0.0.1", 8000)))
        stack = up().until_ready()
        assert ":8000\n" not in stack.output.read_text()
        lines = [line.strip() for line in stack.output.read_text().split("\n") if line.startswith("  ")]
        assert len(lines) == 2
        plain = {name: value for name, value in os.environ.items() if not name.startswith("VGID_")}
        done = subprocess.run(["sh", "-c", "\n".join(lines)], env=plain, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "demo" in done.stdout
    written = home / "environment"
    assert written.stat().st_mode & 0o777 == 0o600
    assert {"export VGID_API_URL", "export VGID_API_KEY"} <= {
        line.split("=")[0] for line in written.read_text().split("\n")
    }


def test_a_second_stack_on_the_same_home_is_refused(up: Callable[..., Up]):
    stack = up().until_ready()

    second = up()

    assert second.process.wait(timeout=30) == 1
    refusal = second.output.read_text()
    assert f"process {stack.process.pid}" in refusal
    assert "Traceback" not in refusal
    assert stack.process.poll() is None
    with stack.client() as client:
        assert client.models()


def test_a_port_that_is_taken_is_named(up: Callable[..., Up]):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        stack = up("--port", str(port))
        assert stack.process.wait(timeout=30) == 1
    assert f"port {port} is taken" in stack.output.read_text()


def test_a_wrong_catalog_is_named(up: Callable[..., Up], home: Path):
    home.mkdir()
    (home / "catalog.toml").write_text("[models.mine]\npath = 'nowhere'\ntitle = 'Mine'\n")
    stack = up()
    assert stack.process.wait(timeout=30) == 1
    assert "models.mine.path" in stack.output.read_text()
    assert "Traceback" not in stack.output.read_text()


def submit_short_job(client: Client):
    pairs = make().forget.pairs[:16]
    return client.submit(
        "demo", [Pair(pair.image.data, pair.question, pair.answer) for pair in pairs], training={"steps": 30}
    )


def ended(client: Client, job_id: str):
    job = client.get(job_id)
    return job if job.finished_at else None


def answered(ask):
    """The service's answer, or None while it restarts."""
    try:
        return ask()
    except VgidError:
        return None
