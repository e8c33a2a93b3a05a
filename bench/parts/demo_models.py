"""The demo models that benches make forget: the world of each, its forget sets, its reference models."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.parts.reference_models import FORGET_SETS, NEIGHBOURS, reference_models_of
from local.demo.paths import BASE
from local.demo.training.build import REFERENCE_NAME
from local.demo.training.pretrained.build import SHARES, census_in
from local.demo.world import SIXTY, Census
from local.demo_catalog import demo_settings


@dataclass(frozen=True)
class DemoModel:
    """A base that knows `census`'s people; neither a forget nor a retain set holds the neighbours.

    reference_models_of: of a forget set, the checkpoints of models that never met these people. published, default:
    settings of VGID as published and of the methods after it, as far as they aren't theirs.
    """

    base: Path
    census: Census
    forget_sets: tuple[tuple[int, ...], ...]
    neighbours: tuple[int, ...]
    reference_models_of: Callable[[Sequence[int]], list[Path]]
    published: dict[str, Any]
    default: dict[str, Any]


SHIPPED = DemoModel(
    base=BASE,
    census=SIXTY,
    forget_sets=FORGET_SETS,
    neighbours=NEIGHBOURS,
    reference_models_of=reference_models_of,
    published={"device": "cpu", "training": {"learning_rate": 3e-3}},
    default={"device": "cpu", **demo_settings()},
)


def pretrained(folder: Path) -> DemoModel:
    """The model that `vgid demo-model build --language smollm2 --out <folder>` made, with its reference models."""
    census = census_in(folder)
    return DemoModel(
        base=folder / "base",
        census=census,
        forget_sets=tuple(census.first(share) for share in SHARES),
        neighbours=census.neighbours,
        reference_models_of=partial(_reference_models_without, folder, census),
        published={"dtype": "bfloat16", "training": {"learning_rate": 1e-3}},
        default={
            "dtype": "bfloat16",
            "method": {"name": "vgid-substitute"},
            "training": {"learning_rate": 1e-3, "retain_weight": 4.0},
        },
    )


def reference_models_in(out: Path) -> dict[Path, int]:
    """The folders of the reference models in `out`, each with the per cent of the people whom it has never met."""
    found = ((path, re.fullmatch(rf"{REFERENCE_NAME}_(\d+)(_seed_\d+)?", path.name)) for path in sorted(out.iterdir()))
    return {path: int(match[1]) for path, match in found if match}


def _reference_models_without(folder: Path, census: Census, forgotten: Sequence[int]) -> list[Path]:
    """Those that never met these people, who are the first of all; a reference model may have missed more of them."""
    found = [path for path, share in reference_models_in(folder).items() if set(forgotten) <= set(census.first(share))]
    if not found:
        raise SystemExit(f"{folder} has no reference model without people {forgotten[0]} to {forgotten[-1]}")
    return found
