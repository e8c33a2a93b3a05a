"""Measures downloads of an artifact from the service, and from nginx for comparison."""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID, uuid4

import psutil

from bench.parts.machine import spread
from bench.serving.load import download, request
from bench.serving.stack import BenchStack, Server, nginx
from jobs import claims, endings, repository
from jobs.lines.releases import NewRelease
from jobs.tables import Job

_MEGABYTE = 1_000_000
# An adapter of a small model, and one of a 7B model at rank 16 in float32.
SIZES = (8 * _MEGABYTE, 200 * _MEGABYTE)
CONNECTIONS = (1, 4)


def download_rates(stack: BenchStack, runs: int, seconds: float) -> dict[str, Any]:
    """The rates of both servers, by size and number of connections."""
    sizes: dict[str, Any] = {}
    with nginx(stack.settings.blob_dir / "artifacts") as other:
        for size in SIZES:
            job_id, sha256 = succeeded_job(stack, size)
            ours = request("GET", f"/unlearn-jobs/{job_id}/artifact", stack.headers)
            sources = {"service": (stack.api, ours)}
            if other is not None:
                sources["nginx"] = (other, request("GET", f"/{sha256[:2]}/{sha256}.zip", {}))
            for connections in CONNECTIONS:
                name = f"{size // _MEGABYTE} MB, {connections} connection{'s' * (connections > 1)}"
                sizes[name] = _compare(sources, connections, runs, seconds)
    return {"nginx": other is not None, "sizes": sizes}


def _compare(
    sources: Mapping[str, tuple[Server, bytes]], connections: int, runs: int, seconds: float
) -> dict[str, Any]:
    """Measures the sources in turn, so that other load on the machine affects all of them."""
    seen: dict[str, list[float]] = defaultdict(list)
    for _ in range(runs):
        for who, (server, request_bytes) in sources.items():
            process = psutil.Process(server.process)
            before = process.cpu_times()
            found = download(server.port, request_bytes, connections, seconds)
            after = process.cpu_times()
            used = after.user + after.system - before.user - before.system
            seen[f"{who}_megabytes_per_second"].append(found["megabytes_per_second"])
            seen[f"{who}_milliseconds_each"].append(found["milliseconds_each"])
            seen[f"{who}_processor_milliseconds_each"].append(1000 * used / found["downloads"])
    return {name: spread(figures) for name, figures in seen.items()}


def succeeded_job(stack: BenchStack, size: int) -> tuple[UUID, str]:
    """Makes a succeeded job with an artifact of about `size` bytes. Returns its id and the artifact's sha256."""
    job_id = uuid4()
    job = Job(
        id=job_id,
        client_id=stack.client_id,
        model="demo",
        config={},
        forget_pairs=24,
        retain_pairs=None,
        retain_set="demo-retain",
        probes={},
        request_hash="0" * 64,
        wrapped_data_key=b"\0",
    )
    with tempfile.TemporaryDirectory() as folder:
        path, weights = Path(folder) / "adapter.zip", Random(size).randbytes(size)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("adapter_model.safetensors", weights)
        sha256, stored = stack.blobs.put_artifact(path)
    files = [{"name": "adapter_model.safetensors", "sha256": hashlib.sha256(weights).hexdigest(), "size": size}]
    with stack.sessions.begin() as s:
        repository.submit(s, job)
        s.flush()
        claimed = claims.claim(s, job_id, "bench", 30)
        assert claimed is not None
        release = NewRelease("0" * 64, None, hashlib.sha256(weights).hexdigest(), 4, {}, ())
        endings.finish(s, job_id, claimed.token, endings.NewArtifact(sha256, stored, files, {}, None, release))
    return job_id, sha256
