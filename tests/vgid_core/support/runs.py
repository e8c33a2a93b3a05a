"""The spec of a short run on the tiny model."""

from __future__ import annotations

from pathlib import Path

from tests.vgid_core.support.tiny import FEW_PAIRS, pair_set
from vgid_core import UnlearnConfig, UnlearnSpec

CONFIG = UnlearnConfig.model_validate(
    {
        "device": "cpu",
        "method": FEW_PAIRS,
        "training": {"steps": 5, "forget_batch_size": 4, "retain_batch_size": 4, "learning_rate": 3e-3},
        "evaluation": {"max_new_tokens": 6, "batch_size": 3, "audits": "none"},
    }
)


def spec(folder: Path, out: Path, **changes: object) -> UnlearnSpec:
    values: dict[str, object] = {
        "model": str(folder),
        "model_name": "acme/tiny-llava",
        "forget": pair_set("whatever", 4),
        "retain": pair_set("whatever", 6, first_picture=20),
        "utility": pair_set("whatever", 3, first_picture=40),
        "probes": {"rephrased": pair_set("whatever", 2, first_picture=60)},
        "out": out,
        "config": CONFIG,
    }
    return UnlearnSpec(**(values | changes))


WEIGHTS = "adapter_model.safetensors"


def changed(config: UnlearnConfig, **values: object) -> UnlearnConfig:
    return UnlearnConfig.model_validate(config.model_dump() | values)


def with_fp8(config: UnlearnConfig) -> UnlearnConfig:
    return changed(config, training=config.training.model_dump() | {"fp8": True})
