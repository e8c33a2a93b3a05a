"""The page on what is left after forgetting has the figures that were measured."""

from pathlib import Path

import pytest

from bench.robustness_tables import tables

PAGE = Path(__file__).parents[2] / "docs" / "forgetting.md"


@pytest.mark.parametrize("table", list(tables()), ids=lambda table: table[0].strip("| "))
def test_the_page_has_each_table_as_it_was_measured(table: list[str]) -> None:
    assert "\n".join(table) in PAGE.read_text(encoding="utf-8"), "python -m bench.robustness_tables"
