"""The two methods that benches set side by side: this project's default, and VGID as published."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from bench.demo_models import SHIPPED
from bench.machine import now
from vgid_core import UnlearnConfig
from vgid_core.config.methods import AnyMethod
from vgid_core.data.pairs import Pair
from vgid_core.methods import setup
from vgid_core.methods.base import MethodContext
from vgid_core.methods.loss_terms import MakeUpdates, Update

DEFAULT = UnlearnConfig().method.name
PUBLISHED = "vgid"


def add_method(parser: argparse.ArgumentParser, default: str) -> None:
    """Has a bench take `--method`."""
    parser.add_argument("--method", default=default, choices=[DEFAULT, PUBLISHED])


def settings(method: str, /, **changes: Any) -> UnlearnConfig:
    """The method with its own default settings and these changes; preset `paper` for the published one."""
    return UnlearnConfig.model_validate({**({"preset": "paper"} if method == PUBLISHED else {}), **changes})


def demo_settings(method: str, /, **changes: Any) -> UnlearnConfig:
    """As `settings`, on CPU and at the demo model's learning rate; the default method as the demo's catalog has it."""
    own = SHIPPED.published if method == PUBLISHED else SHIPPED.default
    return settings(method, **{**own, **changes, "training": {**own["training"], **changes.get("training", {})}})


@contextmanager
def preparations() -> Iterator[list[float]]:
    """Collects the seconds that each step of a run spends before its loss: where a method asks its teachers ahead."""
    seconds: list[float] = []

    def timed_setup(settings: AnyMethod, context: MethodContext) -> MakeUpdates:
        updates = setup(settings, context)

        def timed(forget: Sequence[Pair], retain: Sequence[Pair]) -> Sequence[Update]:
            started = now()
            made = updates(forget, retain)
            seconds.append(now() - started)
            return made

        return timed

    with patch("vgid_core.training.loop.setup", timed_setup):
        yield seconds
