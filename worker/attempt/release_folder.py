"""Packs what is handed out of a release: the adapter, how to serve it, and a signed statement. No request's figures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.database import SessionFactory
from jobs.settings import Settings
from jobs.signing.keys import private_key
from jobs.signing.statement import sign_release
from jobs.signing.timestamp import stamp
from vgid_core.serving.hints import RELEASE_FORMAT, serving_guide
from worker.attempt.artifact_zip import write_artifact_zip

if TYPE_CHECKING:
    from vgid_core import UnlearnResult

_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


def pack_release(
    sessions: SessionFactory, settings: Settings, results: Sequence[UnlearnResult], folder: Path
) -> Path | None:
    """Makes the new `folder`, signs it, and packs it into a zip beside it, which is returned.

    results: those of all requests of the run, which have one adapter. None unless each has passed: then there is no
    release to serve. Raises SigningKeyMissing.
    """
    if not all(result.evidence is not None and result.evidence.verdict.passed for result in results):
        return None
    with sessions.begin() as s:
        key, now = private_key(s, settings.signing_keys)
    adapter = results[0]
    folder.mkdir(exist_ok=True)  # after an attempt that found no room
    for name in _ADAPTER_FILES:
        shutil.copy(adapter.folder / name, folder / name)
    manifest = _manifest(adapter.manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(_readme(manifest), encoding="utf-8")
    sign_release(folder, manifest, now, key, lambda data: stamp(settings.tsa_url, data))
    archive = folder.with_suffix(".zip")
    write_artifact_zip(folder, archive)
    return archive


def _manifest(of_run: Mapping[str, Any]) -> dict[str, Any]:
    """What a server must know of the adapter. The run's data, figures, settings, steps and times stay with its jobs."""
    return {
        "format": RELEASE_FORMAT,
        "base_model": of_run["base_model"],
        "config": {"lora": of_run["config"]["lora"]},
        "files": {name: of_run["files"][name] for name in _ADAPTER_FILES},
        "serving": of_run["serving"],
        "versions": {"vgid": of_run["versions"]["vgid"]},
    }


def _readme(manifest: Mapping[str, Any]) -> str:
    base = manifest["base_model"]
    return f"""# Release for {base["name"]}

One adapter that holds everybody whom this line of releases has forgotten. Every request that it holds met its targets
in the run that forgot it. How many they are, about whom, and what was measured isn't said here: each request's client
has evidence and a statement of its own.

The base must have the digest `{base["digest"]}`. Check the folder with the service's public keys:

```console
$ vgid verify <this folder> --keys vgid-keys.json
```

{serving_guide(manifest)}"""
