"""Liveness and readiness, with each of the services really missing."""

from __future__ import annotations

import asyncio
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from api.limits.remembered import Remembered
from api.main import create_app
from api.routes import health
from api.services import Services
from jobs.settings import Settings
from local.postgres import EmbeddedPostgres
from tests.api.conftest import Serve
from tests.api.service import Service, body, problem


def test_alive_and_ready(service: Service) -> None:
    assert service.open().get("/healthz").json() == {"status": "ok"}
    assert service.open().get("/readyz").json() == {"status": "ready", "lacking": {}, "paused_workers": {}}


def test_paused_workers_are_counted_by_their_reason(service: Service) -> None:
    for worker, reason in (("one:1", "disk-full"), ("one:2", "disk-full"), ("two:1", "database-gone")):
        service.queue.report_pause(worker, [reason], 60)
    assert service.open().get("/readyz").json()["paused_workers"] == {"disk-full": 2, "database-gone": 1}


@pytest.fixture
def address() -> str:
    """A local address that nobody uses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def test_figures_for_prometheus(service: Service, serve: Serve, address: str) -> None:
    with_metrics = serve(service.settings.model_copy(update={"metrics_listen": address}))
    service.http.post("/unlearn-jobs", json=body())
    service.queue.report_pause("one:1", ["disk-full"], 60)
    figures = httpx.get(f"http://{address}/metrics").text.splitlines()
    for line in (
        'vgid_ready{part="postgres"} 1.0', 'vgid_ready{part="redis"} 1.0', 'vgid_jobs{state="queued"} 1.0',
        'vgid_jobs{state="running"} 0.0', 'vgid_workers_paused{reason="disk-full"} 1.0', "vgid_jobs_overdue 0.0",
    ):  # fmt: skip
        assert line in figures
    oldest = next(line for line in figures if line.startswith("vgid_queue_oldest_seconds "))
    assert float(oldest.split()[1]) > 0
    assert with_metrics.open().get("/metrics").status_code == 404  # clients don't see them


def test_figures_that_cannot_be_read_are_left_out(serve: Serve, settings: Settings, address: str) -> None:
    serve(settings.model_copy(update={"metrics_listen": address, "redis_url": "redis://127.0.0.1:1/0"}))
    figures = httpx.get(f"http://{address}/metrics").text
    assert 'vgid_ready{part="redis"} 0.0' in figures
    assert "vgid_workers_paused" not in figures


def test_head_answers_like_get_without_a_body(service: Service) -> None:
    for path in ("/healthz", "/readyz"):
        response = service.open().head(path)
        assert (response.status_code, response.content) == (200, b"")
        assert response.headers["content-type"] == "application/json"


def test_degraded_without_redis_because_requests_are_taken(serve: Serve, settings: Settings) -> None:
    service = serve(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}))
    response = service.open().get("/readyz")
    assert response.status_code == 200
    assert response.json() == {"status": "degraded", "lacking": {"redis": "can't be reached"}, "paused_workers": {}}
    assert service.http.post("/unlearn-jobs", json=body()).status_code == 202


def test_not_ready_where_more_than_redis_is_lacking(serve: Serve, settings: Settings) -> None:
    service = serve(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0", "min_free_bytes": 2**62}))
    response = service.open().get("/readyz")
    problem(response, 503, "unavailable", "redis")
    problem(response, 503, "unavailable", "blobs")
    assert int(response.headers["retry-after"]) > 0
    assert service.open().get("/healthz").status_code == 200


def test_not_ready_with_less_free_space_than_stated(serve: Serve, settings: Settings) -> None:
    service = serve(settings.model_copy(update={"min_free_bytes": 2**62}))
    document = problem(service.open().get("/readyz"), 503, "unavailable", "blobs")
    assert "disk-full (ENOSPC)" in document["errors"][0]["detail"]


def test_not_ready_where_no_file_can_be_written(serve: Serve, settings: Settings) -> None:
    service = serve(settings.model_copy(update={"min_free_bytes": 0}))
    assert service.open().get("/readyz").status_code == 200
    unfinished = settings.blob_dir / "unfinished"
    unfinished.rmdir()
    unfinished.symlink_to("/proc")  # a folder that every system has, and in which nobody can make a file
    later = serve(settings.model_copy(update={"min_free_bytes": 0}))  # which hasn't looked within the last second
    document = problem(later.open().get("/readyz"), 503, "unavailable", "blobs")
    assert "storage-error" in document["errors"][0]["detail"]


def test_not_ready_with_other_migrations(service: Service) -> None:
    with service.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'older'")
    document = problem(service.open().get("/readyz"), 503, "unavailable", "postgres")
    assert "vgid database upgrade" in document["errors"][0]["detail"]


def test_not_ready_without_the_blob_folder(service: Service) -> None:
    blobs: Path = service.settings.blob_dir
    blobs.rename(blobs.with_name("elsewhere"))
    problem(service.open().get("/readyz"), 503, "unavailable", "blobs")


def test_readiness_is_looked_at_once_a_second(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many ask at the same time."""
    looks: list[Services] = []
    look = health.not_ready
    monkeypatch.setattr(health, "not_ready", lambda services: looks.append(services) or look(services))
    now = 0.0
    app = create_app(settings)
    services = app.state.services = replace(app.state.services, condition=Remembered(lambda: now))

    async def ask_at(*moments: float) -> list[set[int]]:
        nonlocal now
        answers = []
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://vgid") as http:
            for moment in moments:
                now = moment
                asked = await asyncio.gather(*(http.get("/readyz") for _ in range(20)))
                answers.append({each.status_code for each in asked})
                shutil.rmtree(settings.blob_dir, ignore_errors=True)
        return answers

    assert asyncio.run(ask_at(0.0, 0.9, 1.1)) == [{200}, {200}, {503}]
    assert len(looks) == 2
    services.close()


@pytest.mark.parametrize("path", ["/readyz", "/models", "/unlearn-jobs"])
def test_unavailable_without_postgres(service: Service, postgres: EmbeddedPostgres, path: str) -> None:
    """The database takes no connections and has ended the existing ones, as if its server were down."""
    name = service.engine.url.database
    service.http.get("/models")
    with postgres.connect() as connection:
        connection.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
        connection.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    response = service.http.get(path)
    problem(response, 503, "unavailable")
    assert "test_" not in response.text
