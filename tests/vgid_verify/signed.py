"""A signed adapter folder, and the keys to check it by, without a database."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

from jobs.signing.statement import Stamp, StatementInputs, keyed_manifest, sign_folder, sign_release
from tests.signing_keys import DAY, NOW, Key
from tests.vgid_core.support.tiny import pair_set

SALT = bytes(range(32))
JOB = UUID("987ae5fd-5281-43ad-af14-999023c27437")
FORGET = pair_set("forget", 4)
EVIDENCE: dict[str, Any] = {
    "format": "vgid-evidence/1",
    "level": "standard",
    "seed": 7,
    "figures": [
        {
            "audit": "extraction", "figure": "extraction.strength", "set": "forget",
            "value": 0.17, "low": 0.1, "high": 0.25,
            "people": 3, "items": 15, "control": {"of": "unseen", "value": 0.2, "low": 0.1, "high": 0.3},
            "before": 1.0,
        }
    ],
    "verdict": {
        "outcome": "forgotten",
        "passed": True,
        "targets": [
            {
                "figure": "extraction.strength", "set": "forget",
                "limit": 0.3, "amount": -0.03, "judged": "above control", "value": 0.17, "low": 0.1, "high": 0.25,
                "held": True,
                "meaning": "Little of an answer has to be given before the rest follows.",
            }
        ],
        "unmeasured": ["neighbours"],
    },
    "limits": ["Measured in 32 bits."],
}  # fmt: skip


def missed() -> dict[str, Any]:
    """Evidence whose one target is missed."""
    evidence: dict[str, Any] = json.loads(json.dumps(EVIDENCE))
    evidence["verdict"] |= {"outcome": "targets-not-met", "passed": False}
    evidence["verdict"]["targets"][0] |= {"held": False, "value": 0.6, "amount": 0.4}
    return evidence


def manifest() -> dict[str, Any]:
    rows = [{"split": "forget", "name": "rouge_l", "value": 0.04, "pairs": 4}]
    return {
        "format": "vgid-manifest/1",
        "method": "vgid-substitute",
        "base_model": {"name": "org/model", "digest": "ab" * 32, "dtype": "float32"},
        "config": {"seed": 7, "method": {"name": "vgid-substitute", "name_of_subject": "**********"}},
        "data": {
            "forget": {"digest": FORGET.digest, "pairs": 4},
            "retain": {"digest": "cd" * 32, "pairs": 6, "dropped_for_overlap_with_forget": 0},
        },
        "scorer": "packed",
        "steps": 4,
        "resumed_after": 0,
        "micro_batch_size": 2,
        "metrics": {"before": [{**rows[0], "value": 1.0}], "after": rows},
        "versions": {"python": "3.12.1", "vgid": "0.1.0"},
        "hardware": {"device": "cpu", "machine": "x86_64", "threads": 1},
    }


def signed_folder(
    folder: Path,
    key: Key,
    evidence: dict[str, Any] | None = EVIDENCE,
    *,
    stamp: Stamp = lambda _: None,
    others: dict[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """An adapter's folder with statements and signatures; changes are those of StatementInputs.

    others: what the run has forgotten of other requests, as a manifest says it.
    """
    folder.mkdir()
    made = manifest()
    made["data"] |= others or {}
    keyed = keyed_manifest(made, SALT)
    (folder / "adapter_model.safetensors").write_bytes(bytes(range(256)) * 4)
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (folder / "manifest.json").write_text(json.dumps(keyed))
    if evidence is not None:
        (folder / "evidence.json").write_text(json.dumps(evidence))
    sign(folder, key, keyed, evidence, stamp=stamp, **changes)
    return folder


def sign(
    folder: Path,
    key: Key,
    keyed: dict[str, Any],
    evidence: dict[str, Any] | None,
    *,
    stamp: Stamp = lambda _: None,
    **changes: Any,
) -> None:
    """Signs a complete folder. keyed: its manifest, with keyed digests."""
    inputs = StatementInputs(
        folder=folder,
        manifest=keyed,
        evidence=evidence,
        job_id=JOB,
        started_at=NOW - DAY / 24,
        signed_at=NOW,
        salt=SALT,
    )
    sign_folder(replace(inputs, **changes), key.private, stamp)


def signed_release(folder: Path, key: Key, stamp: Stamp = lambda _: None) -> Path:
    """A release's folder with its statement and signatures."""
    folder.mkdir()
    made = {"format": "vgid-release/1", "base_model": manifest()["base_model"], "serving": {"name": "vgid-model-0123"}}
    (folder / "adapter_model.safetensors").write_bytes(bytes(range(256)) * 4)
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (folder / "manifest.json").write_text(json.dumps(made))
    sign_release(folder, made, NOW, key.private, stamp)
    return folder


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
