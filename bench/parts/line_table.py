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
_HEAD = """\
| line | says of them (worst) | begun | first, among the first five | AUC from twins | bystanders lose | others lose |
|---|--:|--:|--:|--:|--:|--:|
"""
_NAMES = {
    "kits": "with kits",
    "rank16": "with kits, rank 16",
    "batches": "with kits, five requests a run",
    "question": "kits of one question",
    "alone": "without kits",
    "rebuild": "*rebuild:* one run from the base by kits",
    "at_once": "*rebuild:* one run from the base by all pairs",
}


def fill(page: str) -> str:
    """The page with the table of the results."""
    lines = json.loads((RESULTS / "over_time.json").read_text(encoding="utf-8"))["lines"]
    rows = "".join(_row(name, lines[mode][-1]) for mode, name in _NAMES.items())
    return _MARKED.sub(lambda _: _HEAD + rows, page)


def _row(name: str, found: Mapping[str, Any]) -> str:
    cells = (
        f"{_short(found['said'])} ({_short(found['said_worst'])})",
        _short(found["begun"]),
        f"{_short(found['first'])}, {_short(found['first_five'])}",
        _short(found["from_twins.worst"]),
        _short(found["fall.bystanders"]),
        _short(found["fall.retain_check"]),
    )
    return f"| {name} | {' | '.join(cells)} |\n"


def _short(value: float) -> str:
    """Two places without the zero before the point; 0 for what rounds to it."""
    return f"{value:.2f}".removeprefix("0") if round(value, 2) else "0"


if __name__ == "__main__":
    PAGE.write_text(fill(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
