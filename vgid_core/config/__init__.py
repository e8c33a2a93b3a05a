"""Settings as pydantic models. They import no other room, so that a mistake is found before torch is loaded."""

from __future__ import annotations

from vgid_core.config.adapter import LoraSettings
from vgid_core.config.evaluation import AttackPlan, AuditLevel, EvaluationConfig
from vgid_core.config.overrides import TrainingOverrides
from vgid_core.config.perturbation import PerturbationConfig
from vgid_core.config.run import UnlearnConfig
from vgid_core.config.training import TrainingConfig
from vgid_core.config.verdict import VerdictTargets

__all__ = [
    "AttackPlan",
    "AuditLevel",
    "EvaluationConfig",
    "LoraSettings",
    "PerturbationConfig",
    "TrainingConfig",
    "TrainingOverrides",
    "UnlearnConfig",
    "VerdictTargets",
]
