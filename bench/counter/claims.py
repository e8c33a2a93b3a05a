"""Measures how long the choice of the next job takes while 100,000 jobs of one client wait, beside some of others.

    python -m bench.counter.claims [--queued 100000] [--claims 1000]

It starts Postgres alone, in a temporary folder. A claim is the whole transaction, from its begin to its commit. Eight
jobs run at a time: before each claim the oldest of them ends. Claims of five requests that are run as one, claims of
four workers, which wait for each other, and the forecast in a `GET` of a queued job are measured, too. Prints a table,
writes bench/results/claims.json, and exits with 3 if one worker's p99 is over 20 ms.
"""

from __future__ import annotations

import argparse
import base64
import json
import secrets
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from pydantic import SecretStr
from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine, text

from bench.parts.bars import exit_if_missed
from bench.parts.machine import save
from bench.serving.rows import tidy
from jobs import claims, endings
from jobs.clients import access
from jobs.clients.limits import ClientLimits
from jobs.database import SessionFactory, make_engine, session_factory
from jobs.queueing.forecast import forecast
from jobs.settings import Settings
from jobs.tables import Job
from local.postgres import EmbeddedPostgres
from migrations.runner import upgrade
from vgid_core.config import UnlearnConfig

BAR_SECONDS = 0.020
RUNNING, WORKERS, OTHERS, JOBS_OF_OTHERS = 8, 4, 50, 50
# Every tenth job has a deadline within the next 30 days.
_FILL = """
INSERT INTO jobs (id, client_id, state, created_at, model, config, retain_set, forget_pairs, probes, external_id,
                  subject_hash, legal_basis, due_at, priority, job_metadata, request_hash, idempotency_key, attempt,
                  step, total_steps, progress, wrapped_data_key)
SELECT gen_random_uuid(), CAST(:client AS uuid), 'queued', now() - make_interval(secs => :count - n),
       'model-' || n % 20, CAST(:config AS jsonb), 'people', 24, '{"rephrased": 6}', 'DSR-' || n,
       md5(n::text) || md5('x'), 'GDPR Art. 17(1)(b)',
       CASE WHEN n % 10 = 0 THEN now() + make_interval(hours => n % 720) END, n % 3 - 1, '{"team": "privacy"}',
       md5(n::text) || md5('y'), 'key-' || n, 0, 0, 0, 0, '\\x00'::bytea
FROM generate_series(1, CAST(:count AS integer)) AS n
"""


def main() -> None:
    """Measures, prints and saves. Exits with the missed bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queued", type=int, default=100_000)
    parser.add_argument("--claims", type=int, default=1000)
    arguments = parser.parse_args()
    with _ledger() as engine:
        sessions = session_factory(engine)
        _fill(engine, sessions, arguments.queued)
        figures = _measure(sessions, arguments.claims)
    table = Table("milliseconds", "p50", "p99", "largest")
    for name, found in figures.items():
        table.add_row(name, *(f"{found[key] * 1000:.1f}" for key in ("p50", "p99", "max")))
    Console().print(table)
    record = {"arguments": vars(arguments), "bar_seconds": BAR_SECONDS, "seconds": figures}
    print("written:", save("claims", record, seed=None, runs=arguments.claims))
    p99 = figures["a claim"]["p99"]
    exit_if_missed([f"a claim's p99: {p99:.4f} s, bar {BAR_SECONDS} s"] if p99 > BAR_SECONDS else [])


@contextmanager
def _ledger() -> Iterator[Engine]:
    with tempfile.TemporaryDirectory(prefix="vgid-bench-") as name:
        postgres = EmbeddedPostgres(Path(name) / "postgres")
        try:
            postgres.start()
            upgrade(postgres.url)
            engine = make_engine(_settings(postgres.url, Path(name)))
            yield engine
            engine.dispose()
        finally:
            postgres.destroy()


def _settings(database_url: str, folder: Path) -> Settings:
    return Settings(
        database_url=database_url,
        redis_url="redis://127.0.0.1:1/0",
        blob_dir=folder / "blobs",
        catalog=folder / "catalog.toml",
        secret_key=SecretStr(base64.b64encode(secrets.token_bytes(32)).decode()),
    )


def _fill(engine: Engine, sessions: SessionFactory, count: int) -> None:
    config = json.dumps(UnlearnConfig().model_dump(mode="json"))
    sizes = {"one": count, **{f"other {n}": JOBS_OF_OTHERS for n in range(OTHERS)}}
    with sessions.begin() as s:
        for name, jobs in sizes.items():
            client = access.create_client(s, name)
            access.set_limits(s, client, ClientLimits(running_jobs=2 * RUNNING))
            s.execute(text(_FILL), {"client": client.id, "config": config, "count": jobs})
    tidy(engine)


def _measure(sessions: SessionFactory, count: int) -> dict[str, dict[str, float]]:
    first, last = _of_one(sessions, "priority DESC, created_at"), _of_one(sessions, "priority, created_at DESC")
    running: deque[tuple[UUID, UUID]] = deque()
    alone = [_claim(sessions, running, at_most=RUNNING) for _ in range(count)]

    def work(_: int) -> list[float]:
        own: deque[tuple[UUID, UUID]] = deque()
        return [_claim(sessions, own, at_most=RUNNING // WORKERS) for _ in range(count // WORKERS)]

    with ThreadPoolExecutor(WORKERS) as pool:
        together = [seconds for found in pool.map(work, range(WORKERS)) for seconds in found]
    of_five = [_claim(sessions, running, at_most=RUNNING, run_requests=5) for _ in range(count // 5)]
    return {
        "a claim": _summary(alone),
        "a claim of five requests": _summary(of_five),
        f"a claim, {WORKERS} workers at once": _summary(together),
        "the forecast of a near place": _summary([_forecast(sessions, first) for _ in range(count)]),
        "the forecast of the farthest place": _summary([_forecast(sessions, last) for _ in range(count)]),
    }


def _claim(
    sessions: SessionFactory, running: deque[tuple[UUID, UUID]], *, at_most: int, run_requests: int = 1
) -> float:
    """Seconds of one claim, after the oldest running job has made room for it."""
    if len(running) >= at_most:
        _, token = running.popleft()
        with sessions.begin() as s:
            endings.fail(s, token, "bench", "Only claimed.")

    def claim() -> None:
        with sessions.begin() as s:
            claimed = claims.claim_next(s, "bench", 3600, run_requests=run_requests)
        assert claimed is not None
        running.append((claimed.job.id, claimed.token))

    return _timed(claim)


def _of_one(sessions: SessionFactory, order: str) -> Job:
    """The large client's first queued job in this order, without a deadline."""
    own = text("client_id = (SELECT id FROM clients WHERE name = 'one') AND due_at IS NULL AND state = 'queued'")
    with sessions() as s:
        return s.query(Job).where(own).order_by(text(order)).limit(1).one()


def _forecast(sessions: SessionFactory, job: Job) -> float:
    def ask() -> None:
        with sessions() as s:
            forecast(s, job)

    return _timed(ask)


def _timed(act: Callable[[], None]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _summary(seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {f"p{share}": ordered[share * (len(ordered) - 1) // 100] for share in (50, 99)} | {"max": ordered[-1]}


if __name__ == "__main__":
    main()
