"""Releases as a worker signs and packs them, without training one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.client.conftest import PAIRS, Service
from tests.evidence import FORGOTTEN
from tests.lines import BASE
from tests.signing_keys import Key
from tests.vgid_verify.signed import EVIDENCE, manifest, sign
from vgid_client import Client
from worker.attempt.artifact_zip import write_artifact_zip

WEIGHTS = "adapter_model.safetensors"


def released(service: Service, client: Client, archive: Path, subject: str = "case 7", **release: object) -> str:
    """A job whose adapter is the current release."""
    job = client.submit("tiny", PAIRS, subject_reference=subject, repeat=True)
    service.succeed(job.id, service.claim(job.id), archive, FORGOTTEN, **release)
    return job.id


def signed_adapter(
    folder: Path, key: Key, name: str, model: str = "tiny", base: str = BASE, evidence: dict[str, Any] | None = None
) -> Path:
    """Signs the adapter that the folder holds, or one of a few bytes that its name gives."""
    if not folder.exists():
        folder.mkdir()
        (folder / WEIGHTS).write_bytes(name.encode() * 100)
        (folder / "adapter_config.json").write_text("{}")
    made: dict[str, Any] = manifest() | {"serving": {"name": name}}
    made["base_model"] |= {"name": model, "digest": base}
    made["data"] = {}
    (folder / "manifest.json").write_text(json.dumps(made))
    sign(folder, key, made, evidence or EVIDENCE)
    return folder


def adapter_zip(path: Path, key: Key, name: str, model: str = "tiny", base: str = BASE) -> Path:
    """The zip of a signed adapter that is to be served under that name."""
    write_artifact_zip(signed_adapter(path.with_suffix(""), key, name, model, base), path)
    return path
