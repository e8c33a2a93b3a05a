"""Demo models that know, that only seem to have forgotten, that are broken, and that never knew: to judge audits by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench.parts.demo_models import SHIPPED
from vgid_core import UnlearnConfig

Kind = Literal["knows", "unlearned", "collapsed", "default", "reference_model"]

# Learning rate and retain weight with which each method does best on the demo (docs/research/comparison.md).
_RIVALS: dict[str, tuple[float, float]] = {
    "vgid": (3e-3, 4.0),
    "ga": (5e-4, 1.0),
    "graddiff": (6e-3, 1.0),
    "kl-min": (6e-3, 4.0),
    "idk": (3e-3, 4.0),
    "npo": (6e-3, 4.0),
    "undial": (6e-3, 1.0),
    "rmu": (3e-3, 1.0),
}
_STEPS = {"weak": 15, "usual": 60}
_COLLAPSING = 5  # times the learning rate


@dataclass(frozen=True)
class PooledModel:
    """One model. config: how it is trained from `checkpoint`; None where it is that model.

    kind: `unlearned` is what methods leave when they are stopped early or hide what they should remove; whether each of
    them still knows is asked of the models, not assumed. `default` is this project's method as it is shipped.
    """

    title: str
    kind: Kind
    forgotten: tuple[int, ...]
    checkpoint: Path
    config: UnlearnConfig | None = None


def pool(forgotten: Sequence[int], reference_models: Sequence[Path]) -> Iterator[PooledModel]:
    """All models that were to forget these people."""
    people = tuple(forgotten)
    yield PooledModel("base", "knows", people, SHIPPED.base)
    for number, reference_model in enumerate(reference_models):
        yield PooledModel(f"reference model {number}", "reference_model", people, reference_model)
    for name, (rate, weight) in _RIVALS.items():
        for title, steps in _STEPS.items():
            config = _rival(name, learning_rate=rate, retain_weight=weight, steps=steps)
            yield PooledModel(f"{name}, {title}", "unlearned", people, SHIPPED.base, config)
        config = _rival(name, learning_rate=_COLLAPSING * rate, retain_weight=0.0, steps=60, gradient_clip=None)
        yield PooledModel(f"{name}, too strong", "collapsed", people, SHIPPED.base, config)
    for steps in (2, 10):
        yield PooledModel(f"default, {steps} steps", "unlearned", people, SHIPPED.base, _default(0, steps))
    for seed in (0, 1):
        yield PooledModel(f"default, seed {seed}", "default", people, SHIPPED.base, _default(seed))


def _rival(name: str, **training: Any) -> UnlearnConfig:
    method = {"preset": "paper"} if name == "vgid" else {"method": {"name": name}}
    return UnlearnConfig.model_validate({**method, "device": "cpu", "training": training})


def _default(seed: int, steps: int | None = None) -> UnlearnConfig:
    training = {**SHIPPED.default["training"], **({} if steps is None else {"steps": steps})}
    return UnlearnConfig.model_validate({**SHIPPED.default, "seed": seed, "training": training})
