"""Downloads of an artifact, from the service and from nginx."""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID, uuid4

from bench.machine import spread
from bench.serving.load import download, request
from bench.serving.stack import BenchStack, nginx
from jobs import claims, repository
from jobs.repository import NewJob

_MEGABYTE = 1_000_000
# an adapter of a small model; one of a 7B model at rank 16 in float32
SIZES = (8 * _MEGABYTE, 200 * _MEGABYTE)
CONNECTIONS = (1, 4)


def download_rates(stack: BenchStack, runs: int, seconds: float) -> dict[str, Any]:
    """MB a second of both, by size and number of connections, and their ratio in each run."""
    sizes: dict[str, Any] = {}
    with nginx(stack.settings.blob_dir / "artifacts") as port:
        for size in SIZES:
            job_id, sha256 = succeeded_job(stack, size)
            ours = request("GET", f"/unlearn-jobs/{job_id}/artifact", stack.headers)
            theirs = request("GET", f"/{sha256[:2]}/{sha256}.zip", {})
            for connections in CONNECTIONS:
                rates: dict[str, list[float]] = {"service": [], "nginx": []}
                for _ in range(runs):
                    rates["service"].append(_rate(stack.api_port, ours, connections, seconds))
                    if port is not None:
                        rates["nginx"].append(_rate(port, theirs, connections, seconds))
                name = f"{size // _MEGABYTE} MB, {connections} connection{'s' * (connections > 1)}"
                sizes[name] = {f"{who}_megabytes_per_second": spread(seen) for who, seen in rates.items() if seen}
                if rates["nginx"]:
                    pairs = zip(rates["service"], rates["nginx"], strict=True)
                    sizes[name]["download_to_nginx"] = spread([service / other for service, other in pairs])
    return {"nginx": port is not None, "sizes": sizes}


def succeeded_job(stack: BenchStack, size: int) -> tuple[UUID, str]:
    """A job that has gone the whole way with an artifact of about so many bytes: its id, the artifact's sha256."""
    job_id = uuid4()
    new = NewJob(
        id=job_id,
        model="bench",
        config={},
        forget_pairs=24,
        retain_pairs=None,
        retain_set="bench-retain",
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
        repository.submit(s, stack.client_id, new)
        s.flush()
        claimed = claims.claim(s, job_id, "bench", 30)
        assert claimed is not None
        claims.succeed(s, job_id, claimed.token, claims.NewArtifact(sha256, stored, files, {}), "steps-done")
    return job_id, sha256


def _rate(port: int, wanted: bytes, connections: int, seconds: float) -> float:
    rate: float = download(port, wanted, connections, seconds)["megabytes_per_second"]
    return rate
