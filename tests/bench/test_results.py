"""Stored results were measured with settings that the code still has: who reads a figure can measure it again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.parts.machine import RESULTS
from compare.record import Conditions, Row
from vgid_core import UnlearnConfig

FILES = sorted(RESULTS.glob("*.json"))


def configs_in(record: Any) -> Iterator[dict[str, Any]]:
    """Every `config` of a record, wherever it lies."""
    if isinstance(record, dict):
        for key, value in record.items():
            if key == "config":
                yield value
            else:
                yield from configs_in(value)
    elif isinstance(record, list):
        for value in record:
            yield from configs_in(value)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_results_settings_are_still_settings(file: Path) -> None:
    for config in configs_in(json.loads(file.read_text(encoding="utf-8"))):
        UnlearnConfig.model_validate(config)


def test_the_comparison_can_be_gone_on_with() -> None:
    record = json.loads((RESULTS / "compare_methods.json").read_text(encoding="utf-8"))
    Conditions.model_validate(record["terms"])
    assert [Row.model_validate(row).name for row in record["rows"]]


def test_settings_are_found_wherever_they_lie() -> None:
    assert list(configs_in({"config": {"seed": 0}, "rows": [{"config": {"seed": 1}}, 2]})) == [{"seed": 0}, {"seed": 1}]
