"""Unlearning for vision-language models: sets of pairs in, a LoRA adapter and metrics out. Needs no service.

    from vgid_core import PairSet, UnlearnSpec, unlearn

Importing this package, `config`, `data` or `progress` doesn't import torch; `unlearn` does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vgid_core import kernel_notice
from vgid_core.config import TrainingOverrides, UnlearnConfig
from vgid_core.data.pairs import DataError, EncodedImage, Pair, PairSet
from vgid_core.data.photos import PhotoSet
from vgid_core.errors import UnlearnError
from vgid_core.progress import Phase, Progress

kernel_notice.suppress()

if TYPE_CHECKING:
    from vgid_core.evaluation.metric import Metric
    from vgid_core.measure import EvaluationResult, evaluate_adapter
    from vgid_core.models.load import HostModel, read_base
    from vgid_core.run import UnlearnResult, unlearn
    from vgid_core.spec import EvaluationSpec, UnlearnSpec

__all__ = [
    "DataError",
    "EncodedImage",
    "EvaluationResult",
    "EvaluationSpec",
    "HostModel",
    "Metric",
    "Pair",
    "PairSet",
    "Phase",
    "PhotoSet",
    "Progress",
    "TrainingOverrides",
    "UnlearnConfig",
    "UnlearnError",
    "UnlearnResult",
    "UnlearnSpec",
    "evaluate_adapter",
    "read_base",
    "unlearn",
]


_LAZY = {
    "HostModel": "vgid_core.models.load",
    "read_base": "vgid_core.models.load",
    "EvaluationResult": "vgid_core.measure",
    "EvaluationSpec": "vgid_core.spec",
    "evaluate_adapter": "vgid_core.measure",
    "Metric": "vgid_core.evaluation.metric",
    "UnlearnResult": "vgid_core.run",
    "UnlearnSpec": "vgid_core.spec",
    "unlearn": "vgid_core.run",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
