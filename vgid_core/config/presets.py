"""Named settings to start from: VGID as the paper has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from vgid_core.config.method_names import METHODS, error_at, others_settings, refused
from vgid_core.config.methods import IMPERATIVE

# The paper (arXiv 2606.00105): both halves of the intervention, KL on answer tokens, both terms weighing the same. The
# adapter has the size that the authors' code gives it. It was measured here
# with 60 steps of 16 pairs of each set. What else a run needs stays as `UnlearnConfig` has it.
_PAPER: dict[str, Any] = {
    "method": {
        "name": "vgid",
        "perturbation": {"kind": "uniform"},
        "instruction": IMPERATIVE,
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

PRESETS: Mapping[str, Mapping[str, Any]] = {"paper": _PAPER}


def start_from_preset(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the preset that `values` name, changed by all else in them, table by table.

    Raises ValidationError for an unknown preset, and for a method other than the preset's or its settings. What is no
    method at all, or no method's setting, stays, for whoever validates methods to refuse.
    """
    name, given = values["preset"], {key: value for key, value in values.items() if key != "preset"}
    if not isinstance(name, str) or name not in PRESETS:
        raise _refused(f"must be one of {', '.join(PRESETS)}")
    preset = PRESETS[name]
    method = given.get("method", {})
    if isinstance(method, str):
        given["method"] = method = {"name": method}
    if isinstance(method, Mapping):
        _require_fitting(name, preset["method"]["name"], method)
    return _changed(preset, given)


def _require_fitting(preset: str, own: str, method: Mapping[Any, Any]) -> None:
    """Raises ValidationError for what belongs to another method than the preset's `own`."""
    asked = method.get("name", own)
    if asked in list(METHODS) and asked != own:
        raise _refused(f"'{preset}' is the method '{own}', not '{asked}': leave out the one or the other")
    lacking = others_settings(own, method) if asked == own else {}
    if lacking:
        told = f"'{preset}' is the method '{own}', which has no {', '.join(lacking)}"
        raise _refused(f"{told}: leave these out of the method's settings, or leave out the preset")


def _refused(message: str) -> ValidationError:
    return refused([error_at(("preset",), "preset", message)], "preset")


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
