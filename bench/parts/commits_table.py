"""Writes into bench/results/README.md which commit each result in bench/results was measured at.

python -m bench.parts.commits_table
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from bench.parts.machine import RESULTS

PAGE = RESULTS / "README.md"
_BLOCK = re.compile(r"(<!-- figures: commits -->\n).*?(<!-- end -->)", re.DOTALL)
_DIRTY = "-dirty"


def fill_table(page: str) -> str:
    """Returns the page with the table filled in."""
    return _BLOCK.sub(lambda found: found[1] + "".join(f"{line}\n" for line in _lines()) + found[2], page)


def _lines() -> Iterator[str]:
    """A line a commit, the oldest result first. The comparison's rows are of several commits; its page has them."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in RESULTS.glob("*.json")]
    names: dict[str, list[str]] = {}
    for record in sorted((each for each in records if "bench" in each), key=lambda each: (each["at"], each["bench"])):
        names.setdefault(record["machine"]["commit"], []).append(f"`{record['bench']}`")
    yield "| commit | results |"
    yield "|---|---|"
    for commit, measured in names.items():
        yield f"| {_shown(commit)} | {', '.join(measured)} |"


def _shown(commit: str) -> str:
    short = f"`{commit.removesuffix(_DIRTY)[:7]}`"
    return f"{short}, changed" if commit.endswith(_DIRTY) else short


def main() -> None:
    """Fills the page's table in place."""
    PAGE.write_text(fill_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
