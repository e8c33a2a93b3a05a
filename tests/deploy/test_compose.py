"""docker-compose.yml, checked without an engine: what it names exists, and secrets have no default."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from redis import Redis

from jobs.settings import Settings
from local.redis import find_redis_server, free_port
from migrations.commands import PASSWORDS
from migrations.roles import Room
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
OURS = ("migrate", "operator", "api", "worker")
PASSWORD = "0123456789abcdef"
SECRETS = (
    "POSTGRES_PASSWORD", "POSTGRES_API_PASSWORD", "POSTGRES_WORKER_PASSWORD", "REDIS_PASSWORD", "VGID_SECRET_KEY"
)  # fmt: skip
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def mount(volume: str | dict[str, Any]) -> tuple[str, str]:
    """The source and target of a volume, in either of its two forms."""
    if isinstance(volume, str):
        source, target = volume.split(":")
        return source, target
    assert volume["read_only"] is True
    return volume["source"], volume["target"]


@dataclass
class Queue:
    """A running Redis. service: as the compose file has it."""

    process: subprocess.Popen[bytes]
    port: int
    service: dict[str, Any]
    path: str
    memory: Path

    @property
    def url(self) -> str:
        return f"redis://:{PASSWORD}@127.0.0.1:{self.port}"

    def check(self, **variables: str) -> int:
        """The exit code of the service's health check."""
        kind, program, *arguments = self.service["healthcheck"]["test"]
        assert kind == "CMD"
        environment = self.service["environment"] | {"PATH": self.path} | variables
        command = [shutil.which(program, path=self.path) or program, "-p", str(self.port), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, timeout=60).returncode


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    given = {name: f"the {name}" for name in SECRETS} | {"MODELS_DIR": "/srv/models", "REDIS_PASSWORD": PASSWORD}
    filled = VARIABLE.sub(lambda found: given.get(found[1], found[3]), TEXT)
    document: dict[str, Any] = yaml.safe_load(filled)
    return document


def test_secrets_must_be_given_and_every_variable_is_explained() -> None:
    explained = (ROOT / ".env.example").read_text(encoding="utf-8")
    for name, mark, _ in VARIABLE.findall(TEXT):
        assert re.search(rf"^#?{name}=", explained, re.MULTILINE), name
        if name in (*SECRETS, "MODELS_DIR"):
            assert mark == "?", f"{name} must have no default"


def test_services_are_given_every_required_setting_and_no_unknown_one(compose: dict[str, Any]) -> None:
    known = {f"VGID_{name.upper()}": field for name, field in Settings.model_fields.items()}
    for name in OURS:
        given = set(compose["services"][name]["environment"]) - set(PASSWORDS.values())
        assert given <= set(known), name
        assert {key for key, field in known.items() if field.is_required()} <= given, name


def test_api_and_worker_have_database_accounts_of_their_own(compose: dict[str, Any]) -> None:
    """And know no other's password, which would let them be its owner."""
    services = compose["services"]
    command = services["migrate"]["command"]
    for room in Room:
        role = command[command.index(f"--{room}-role") + 1]
        environment = services[room.value]["environment"]
        own = services["migrate"]["environment"][PASSWORDS[room]]
        assert environment["VGID_DATABASE_URL"] == f"postgresql://{role}:{own}@postgres:5432/vgid"
        assert own == f"the POSTGRES_{room.upper()}_PASSWORD"
        for secret in set(SECRETS) - {f"POSTGRES_{room.upper()}_PASSWORD", "VGID_SECRET_KEY"}:
            assert f"the {secret}" not in str(environment)


def test_the_operators_service_is_started_by_nothing_but_its_name(compose: dict[str, Any]) -> None:
    assert compose["services"]["operator"]["profiles"] == ["operator"]
    assert all("operator" not in service.get("depends_on", {}) for service in compose["services"].values())


def test_our_services_run_one_image_with_few_rights(compose: dict[str, Any]) -> None:
    services = [compose["services"][name] for name in OURS]
    assert len({service["image"] for service in services}) == 1
    assert [name for name in OURS if "build" in compose["services"][name]] == ["api"]
    for service in services:
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert "/tmp" in service["tmpfs"]


def test_api_and_worker_share_the_blobs_and_the_models(compose: dict[str, Any]) -> None:
    for name in ("api", "worker"):
        service = compose["services"][name]
        mounted = {target: source for source, target in map(mount, service["volumes"])}
        assert mounted[service["environment"]["VGID_BLOB_DIR"]] == "blobs"
        assert str(Path(service["environment"]["VGID_CATALOG"]).parent) in mounted


def test_only_the_worker_reserves_a_gpu(compose: dict[str, Any]) -> None:
    with_devices = {name: service["deploy"] for name, service in compose["services"].items() if "deploy" in service}
    assert list(with_devices) == ["worker"]
    (device,) = with_devices["worker"]["resources"]["reservations"]["devices"]
    assert "gpu" in device["capabilities"]


def test_every_volume_network_and_dependency_exists(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for volume in service.get("volumes", []):
            source, _ = mount(volume)
            assert source.startswith("/") or source in compose["volumes"], name
        assert set(service.get("networks", [])) <= {*compose["networks"], "default"}, name
        for needed, how in service.get("depends_on", {}).items():
            other = compose["services"][needed]
            if how["condition"] == "service_healthy":
                assert "test" in other["healthcheck"], f"{needed} has no check"
            else:
                assert how["condition"] == "service_completed_successfully"
                assert not other["restart"].startswith(("always", "unless")), f"{needed} never completes"


def test_postgres_and_redis_keep_their_data_and_are_not_reachable_from_outside(compose: dict[str, Any]) -> None:
    assert compose["networks"]["backend"]["internal"] is True
    for name, where in (("postgres", "/var/lib/postgresql"), ("redis", "/data")):
        service = compose["services"][name]
        assert service["networks"] == ["backend"]
        assert "ports" not in service
        assert f"{name}:{where}" in service["volumes"]


def test_no_secret_stands_on_a_command_line(compose: dict[str, Any]) -> None:
    secrets = ("letters", PASSWORD, "redis://")
    for name, service in compose["services"].items():
        shown = (
            f"{service.get('command')} {service.get('entrypoint')} {service.get('healthcheck')} {service.get('labels')}"
        )
        assert not any(secret in shown for secret in secrets), name


def test_the_workers_checkpoints_outlive_its_container_and_nobody_else_mounts_them(compose: dict[str, Any]) -> None:
    folder = compose["services"]["worker"]["environment"]["VGID_CHECKPOINT_DIR"]
    mounted = {
        (name, source)
        for name, service in compose["services"].items()
        for source, target in map(mount, service.get("volumes", []))
        if folder == target
    }
    assert mounted == {("worker", "checkpoints")}
    assert "checkpoints" in compose["volumes"]
    assert folder in (ROOT / "Dockerfile").read_text(encoding="utf-8"), "the volume's owner is the image's folder's"


@pytest.fixture
def queue(compose: dict[str, Any], tmp_path: Path) -> Iterator[Queue]:
    """The Redis of the compose file on a free port, run by the real command without an image."""
    service = compose["services"]["redis"]
    server, port = find_redis_server(), free_port()
    # What the image has: its entry point, which hands over to the server, and the account redis.
    stubs = {"docker-entrypoint.sh": f'shift; exec "{server}" "$@" --port {port} --dir "{tmp_path}"', "chown": "exit 0"}
    for name, text in stubs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    (folder,) = service["tmpfs"]
    (tmp_path / "memory").mkdir()
    command = [part.replace("$$", "$").replace(folder, str(tmp_path / "memory")) for part in service["command"]]
    path = f"{tmp_path}:{server.parent}:{os.environ['PATH']}"
    process = subprocess.Popen(command, env=service["environment"] | {"PATH": path}, stdout=subprocess.DEVNULL)
    yield Queue(process, port, service, path, tmp_path / "memory")
    process.kill()
    process.wait()


def test_redis_asks_for_the_password_and_its_check_sees_that(queue: Queue) -> None:
    eventually(lambda: queue.check() == 0)
    assert queue.check(REDISCLI_AUTH="") != 0, "without a password nothing is answered, and that isn't healthy"
    assert queue.check(REDISCLI_AUTH="another") != 0
    with Redis.from_url(queue.url) as client:
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    files = list(queue.memory.iterdir())
    assert [(file.name, file.stat().st_mode & 0o777) for file in files] == [("redis.conf", 0o600)]
    assert not any(PASSWORD in part for part in psutil.Process(queue.process.pid).cmdline())
    queue.process.terminate()
    assert queue.process.wait(timeout=30) == 0, "it gets the signal itself, and saves"


def test_the_database_command_exists(compose: dict[str, Any]) -> None:
    program, *arguments = compose["services"]["migrate"]["command"]
    assert program == "vgid"
    assert _run(["-m", "vgid_client.cli", *arguments, "--help"]).returncode == 0


def test_the_worker_command_exists(compose: dict[str, Any]) -> None:
    service = compose["services"]["worker"]
    variables = service["environment"] | {"VGID_SECRET_KEY": base64.b64encode(bytes(range(32))).decode()}
    assert _run(["-m", *service["command"], "--help"], variables).returncode == 0


def _run(arguments: list[str], variables: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    environment = os.environ | (variables or {})
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, timeout=60)
