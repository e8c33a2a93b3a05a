"""The two methods that benches compare: this project's default, and VGID as published."""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from bench.parts.demo_models import SHIPPED
from bench.parts.llava_shapes import INSTRUCTION, Shapes, words
from bench.parts.machine import now
from vgid_core import UnlearnConfig
from vgid_core.config.methods import AnyMethod
from vgid_core.data.pairs import Pair
from vgid_core.methods import setup
from vgid_core.methods.base import MethodContext
from vgid_core.methods.loss_terms import MakeUpdates, Update

DEFAULT = UnlearnConfig().method.name
PUBLISHED = "vgid"


def add_method(parser: argparse.ArgumentParser, default: str) -> None:
    """Adds the option `--method`."""
    parser.add_argument("--method", default=default, choices=[DEFAULT, PUBLISHED])


def settings(method: str, /, **changes: Any) -> UnlearnConfig:
    """The method's default settings with these changes. The published method starts from the preset `paper`."""
    return UnlearnConfig.model_validate({**({"preset": "paper"} if method == PUBLISHED else {}), **changes})


def shaped_settings(method: str, shapes: Shapes, /, **changes: Any) -> UnlearnConfig:
    """As `settings`, with an instruction in the shapes' words. Only the published method has one."""
    instruction = words(INSTRUCTION, random.Random(1), shapes.vocabulary)
    own = {"method": {"instruction": instruction}} if method == PUBLISHED else {}
    return settings(method, **own, **changes)


def demo_settings(method: str, /, **changes: Any) -> UnlearnConfig:
    """As `settings`, with what the demo model needs: the CPU, its learning rate, and the demo catalog's settings."""
    own = SHIPPED.published if method == PUBLISHED else SHIPPED.default
    return settings(method, **{**own, **changes, "training": {**own["training"], **changes.get("training", {})}})


@contextmanager
def preparations() -> Iterator[list[float]]:
    """Collects the seconds that each step spends before its loss, where vgid-substitute asks its teachers."""
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
