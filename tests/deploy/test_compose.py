"""docker-compose.yml, checked without an engine: what it names exists, and secrets have no default."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.settings import Settings
from migrations.commands import PASSWORDS
from migrations.roles import Room

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
OURS = ("migrate", "operator", "api", "worker")
SECRETS = ("POSTGRES_PASSWORD", "POSTGRES_API_PASSWORD", "POSTGRES_WORKER_PASSWORD", "VGID_SECRET_KEY")
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def mount(volume: str | dict[str, Any]) -> tuple[str, str]:
    """The source and target of a volume, in either of its two forms."""
    if isinstance(volume, str):
        source, target = volume.split(":")
        return source, target
    assert volume["read_only"] is True
    return volume["source"], volume["target"]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    given = {name: f"the {name}" for name in SECRETS} | {"MODELS_DIR": "/srv/models"}
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
    redis = compose["services"]["redis"]["command"]
    assert redis[redis.index("--appendonly") + 1] == "yes"
    assert redis[redis.index("--maxmemory-policy") + 1] == "noeviction"


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
