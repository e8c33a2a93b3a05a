"""Named settings: VGID as the paper has it, and as the authors' code runs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vgid_core.methods.known import METHODS
from vgid_core.methods.taught import IMPERATIVE

# The paper (arXiv 2606.00105): both halves of the intervention, KL on answer tokens, both terms weighing the same. The
# adapter has the size that the authors' code gives it. It was measured here
# with 60 steps of 16 pairs of each set. What else a run needs stays as `UnlearnConfig` has it.
_PAPER: dict[str, Any] = {
    "method": {
        "name": "vgid",
        "perturbation": {"kind": "uniform"},
        "instruction": IMPERATIVE,
        "positions": "answer",
        "retain_loss": "kl",
    },
    "lora": {"rank": 16, "alpha": 16, "scope": "language"},
    "training": {
        "steps": 60,
        "forget_batch_size": 16,
        "retain_batch_size": 16,
        "forget_weight": 1.0,
        "retain_weight": 1.0,
    },
}

# github.com/JackChen-seu/VGID at 4275edc, baselines/Vgid.py, with its own defaults; docs/interventions.md goes through
# the differences.
_PUBLIC_CODE: dict[str, Any] = {
    "method": {
        "name": "vgid",
        "perturbation": {"kind": "uniform_normalised"},
        "instruction": "",
        "positions": "all",
        "retain_loss": "kl",
    },
    "lora": {"rank": 16, "alpha": 16, "dropout": 0.05, "scope": "language-names"},
    "training": {
        "epochs": 5,
        "schedule": "per-epoch",
        "warmup_steps": 0,
        "forget_batch_size": 4,
        "retain_batch_size": 4,
        "micro_batch_size": 4,
        "learning_rate": 5e-4,
        "weight_decay": 0.0,
        "forget_weight": 1.0,
        "retain_weight": 1.0,
        "gradient_clip": None,
    },
    "dtype": "float32",
}

PRESETS: Mapping[str, Mapping[str, Any]] = {"paper": _PAPER, "public-code": _PUBLIC_CODE}


def start_from_preset(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the preset that `values` name, changed by all else in them, table by table.

    Raises ValueError for an unknown preset, and for a method other than the preset's. What is no method at all stays,
    for whoever validates methods to refuse.
    """
    name, given = values["preset"], {key: value for key, value in values.items() if key != "preset"}
    if not isinstance(name, str) or name not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}")
    preset = PRESETS[name]
    method = given.get("method", {})
    asked = method if isinstance(method, str) else method.get("name") if isinstance(method, Mapping) else None
    if asked in list(METHODS) and asked != preset["method"]["name"]:
        raise ValueError(f"preset '{name}' is the method '{preset['method']['name']}': leave out the one or the other")
    if isinstance(method, str):
        given["method"] = {"name": method}
    return _changed(preset, given)


def _changed(base: Mapping[str, Any], by: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in by.items():
        kept = result.get(key)
        # A perturbation is one value: the strength of one kind means nothing to another.
        if isinstance(kept, Mapping) and isinstance(value, Mapping) and key != "perturbation":
            result[key] = _changed(kept, value)
        else:
            result[key] = value
    return result
