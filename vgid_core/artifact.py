"""The artifact of a run: a PEFT adapter in safetensors, and a manifest of how it was made."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from vgid_core.config import UnlearnConfig
from vgid_core.data.file_digest import file_digest
from vgid_core.evaluation.evidence import LIMITS
from vgid_core.evaluation.metric import Metric
from vgid_core.lora.load import ADAPTER_FILES, ADAPTER_WEIGHTS, MANIFEST
from vgid_core.models import distributed
from vgid_core.models.base import BaseModel
from vgid_core.serving.hints import as_manifest_entry, serving_guide

EVIDENCE = "evidence.json"
MANIFEST_FORMAT = "vgid-manifest/1"
_PACKAGES = ("vgid", "torch", "transformers", "peft", "safetensors", "tokenizers")


def write_adapter(student: PeftModel, folder: Path, model_name: str) -> None:
    """Saves the adapter for plain PEFT: adapter_config.json and adapter_model.safetensors.

    Replaces the base's local path in the config by `model_name`, so that no path of this machine is published. Deletes
    an existing manifest first, which is another adapter's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    student.save_pretrained(str(folder), safe_serialization=True)
    path = folder / "adapter_config.json"
    # safetensors makes its files readable by this account alone, which a server may run under another one.
    (folder / "adapter_model.safetensors").chmod(path.stat().st_mode)
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = model_name
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class RunRecord:
    """The facts of a run for its manifest.

    data: digest and size of each set by name. scorer: packed or padded. metrics: by stage, before and after. steps: in
    all, of which an interrupted run did `resumed_after`. micro_batch_size: the one at the end. checks: those of early
    stopping. seconds: by phase, of the process that finished the run. evidence: as `Evidence.as_json`; None without
    audits. start: sha256 of the weights with which the student began; None for a fresh adapter.
    """

    model_name: str
    config: UnlearnConfig
    data: Mapping[str, Mapping[str, Any]]
    trained_modules: Sequence[str]
    scorer: str
    metrics: Mapping[str, Sequence[Metric]]
    steps: int
    resumed_after: int
    micro_batch_size: int
    seconds: Mapping[str, float]
    evidence: Mapping[str, Any] | None
    start: str | None = None


def build_manifest(base: BaseModel, run: RunRecord, folder: Path) -> dict[str, Any]:
    """The manifest in JSON types: settings, data digests, metrics, environment; no image and no text of the data."""
    files = {name: file_digest(folder / name) for name in ADAPTER_FILES}
    return {
        "format": MANIFEST_FORMAT,
        "method": run.config.method.title,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "base_model": {"name": run.model_name, "digest": base.digest, "dtype": str(base.dtype).removeprefix("torch.")},
        "config": run.config.model_dump(mode="json"),  # shows a subject's name as asterisks
        "seed": run.config.seed,
        "data": {name: dict(entry) for name, entry in run.data.items()},
        "start": run.start,
        "trained_modules": list(run.trained_modules),
        "scorer": run.scorer,
        "steps": run.steps,
        "resumed_after": run.resumed_after,
        "micro_batch_size": run.micro_batch_size,
        "processes": distributed.world_size(),
        "verdict": None if run.evidence is None else run.evidence["verdict"],
        "metrics": {stage: [asdict(metric) for metric in rows] for stage, rows in run.metrics.items()},
        "seconds": {phase: round(value, 3) for phase, value in run.seconds.items()},
        "versions": versions(),
        "hardware": hardware(base.device),
        "files": files,
        "serving": as_manifest_entry(run.model_name, files[ADAPTER_WEIGHTS], run.config.lora),
        "not_shown": list(LIMITS),
    }


def write_manifest(manifest: Mapping[str, Any], evidence: Mapping[str, Any] | None, folder: Path) -> None:
    """Writes evidence.json if there is evidence, a README.md on how to use the adapter, and manifest.json last."""
    (folder / EVIDENCE).unlink(missing_ok=True)
    if evidence is not None:
        _write_json(evidence, folder / EVIDENCE)
    (folder / "README.md").write_text(_readme(manifest), encoding="utf-8")
    _write_json(manifest, folder / MANIFEST)


def _write_json(document: Mapping[str, Any], path: Path) -> None:
    path.write_text(json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


_VERDICTS = {
    True: "Every target of the verdict holds: evidence.json has the figures, their controls, and what they don't show.",
    False: "**This adapter has not passed.** A target of the verdict is missed (evidence.json): don't serve it as if "
    "the people were forgotten.",
    None: "No audits were run, so there is no verdict: nothing shows that anybody is forgotten.",
}


def _readme(manifest: Mapping[str, Any]) -> str:
    name = manifest["base_model"]["name"]
    return f"""# Unlearning adapter for {name}

{_VERDICTS[None if manifest["verdict"] is None else manifest["verdict"]["passed"]]}

```python
from peft import PeftModel
from transformers import AutoModelForImageTextToText

model = AutoModelForImageTextToText.from_pretrained("<path of {name}>")
model = PeftModel.from_pretrained(model, "<this folder>")
```

The base must have the digest `{manifest["base_model"]["digest"]}` (see manifest.json, which also holds the
configuration, data digests, versions and the measured figures before and after).

{serving_guide(manifest)}"""


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that affect the result."""
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def hardware(device: torch.device) -> dict[str, Any]:
    """Device type, machine architecture, number of threads, and the GPU's name."""
    found: dict[str, Any] = {"device": device.type, "machine": platform.machine(), "threads": torch.get_num_threads()}
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    return found
