"""Presets: named settings to start from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from vgid_core.config.method_names import METHODS, error_at, settings_of_other_methods, validation_error
from vgid_core.config.methods import IMPERATIVE

# The paper (arXiv 2606.00105): both interventions, KL on answer tokens, equal weights. The adapter's rank is that of
# the authors' code; steps and batch sizes are this project's. All else has `UnlearnConfig`'s defaults.
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
    """The settings of the preset named by `values["preset"]`, overridden by the other values, table by table.

    Raises ValidationError for an unknown preset, for a method other than the preset's, and for another method's
    settings. Unknown methods and settings stay in the result, for the validation of methods to refuse.
    """
    name, given = values["preset"], {key: value for key, value in values.items() if key != "preset"}
    if not isinstance(name, str) or name not in PRESETS:
        raise _preset_error(f"must be one of {', '.join(PRESETS)}")
    preset = PRESETS[name]
    method = given.get("method", {})
    if isinstance(method, str):
        given["method"] = method = {"name": method}
    if isinstance(method, Mapping):
        _require_same_method(name, preset["method"]["name"], method)
    return _override(preset, given)


def _require_same_method(preset: str, own: str, method: Mapping[Any, Any]) -> None:
    """Raises ValidationError for another method than the preset's `own`, or for another method's settings."""
    wanted = method.get("name", own)
    if wanted in list(METHODS) and wanted != own:
        raise _preset_error(f"'{preset}' is the method '{own}', not '{wanted}': leave out the one or the other")
    others = settings_of_other_methods(own, method) if wanted == own else {}
    if others:
        reason = f"'{preset}' is the method '{own}', which has no {', '.join(others)}"
        raise _preset_error(f"{reason}: leave these out of the method's settings, or leave out the preset")


def _preset_error(message: str) -> ValidationError:
    return validation_error([error_at(("preset",), "preset", message)], "preset")


def _override(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in overrides.items():
        current = result.get(key)
        # A perturbation is replaced whole, since one kind's strength has no meaning for another kind.
        if isinstance(current, Mapping) and isinstance(value, Mapping) and key != "perturbation":
            result[key] = _override(current, value)
        else:
            result[key] = value
    return result
