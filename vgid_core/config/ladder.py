"""The ladder: settings with which a run trains again if its verdict missed a target, each rung stronger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vgid_core.config.run import UnlearnConfig

_MOST_STEPS = 5000
_MOST_TEACHERS = 256


def rungs(config: UnlearnConfig, forget_pairs: int) -> list[UnlearnConfig]:
    """The run's settings, then those of each retry that `evaluation.retries` allows.

    First retry: one and a half times the steps. Second: twice the steps, and for the default method twice the teachers
    and one and a half times the weight of likelihoods. Each begins again from the base.
    """
    first = config.for_pairs(forget_pairs)
    found = [first, _stronger(first, 1.5), _stronger(first, 2, teachers=2, likelihood_weight=1.5)]
    return found[: 1 + config.evaluation.retries]


def _stronger(config: UnlearnConfig, steps: float, **factors: float) -> UnlearnConfig:
    values = config.model_dump()
    values["training"]["steps"] = min(_MOST_STEPS, round(steps * (config.training.steps or 1)))
    method: dict[str, Any] = values["method"]
    for name, factor in factors.items():
        if name in method:
            method[name] = type(method[name])(method[name] * factor)
    if "teachers" in method:
        method["teachers"] = min(method["teachers"], _MOST_TEACHERS)
    return type(config).model_validate(_with_names(values, config))


def _with_names(values: dict[str, Any], config: UnlearnConfig) -> dict[str, Any]:
    """A dump shows asterisks in a subject's place."""
    name = getattr(config.method, "subject_name", None)
    if name is not None:
        values["method"]["subject_name"] = name.get_secret_value()
    return values
