"""Writes the table of docs/concepts/releases.md from bench/results/over_time.json.

python -m bench.parts.line_table
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.parts.machine import RESULTS

PAGE = Path(__file__).parents[2] / "docs" / "concepts" / "releases.md"
_MARKED = re.compile(r"(?<=<!-- figures: over time -->\n).*?(?=<!-- end -->)", re.DOTALL)
_HEAD = (
    "| line | says of them (worst) | prefilled | first, among the first five | AUC from reference models "
    "| neighbours lose | others lose |\n"
    "|---|--:|--:|--:|--:|--:|--:|\n"
)
_NAMES = {
    "replay_sets": "with replay sets",
    "rank16": "with replay sets, rank 16",
    "batches": "with replay sets, five requests a run",
    "question": "replay sets of one question",
    "alone": "without replay sets",
    "rebuild": "*rebuild:* one run from the base by replay sets",
    "at_once": "*rebuild:* one run from the base by all pairs",
}


def fill(page: str) -> str:
    """The page with the table of the results."""
    lines = json.loads((RESULTS / "over_time.json").read_text(encoding="utf-8"))["lines"]
    rows = "".join(_row(name, lines[mode][-1]) for mode, name in _NAMES.items())
    return _MARKED.sub(lambda _: _HEAD + rows, page)


def _row(name: str, found: Mapping[str, Any]) -> str:
    cells = (
        f"{_short(found['generated'])} ({_short(found['generated_worst'])})",
        _short(found["prefilled"]),
        f"{_short(found['first'])}, {_short(found['first_five'])}",
        _short(found["from_references.worst"]),
        _short(found["drop.neighbours"]),
        _short(found["drop.retain_check"]),
    )
    return f"| {name} | {' | '.join(cells)} |\n"


def _short(value: float) -> str:
    """Two places without the zero before the point; 0 for what rounds to it."""
    return f"{value:.2f}".removeprefix("0") if round(value, 2) else "0"


if __name__ == "__main__":
    PAGE.write_text(fill(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
