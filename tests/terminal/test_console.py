"""The console of a command's result."""

from __future__ import annotations

import pytest

from terminal.console import result_console
from terminal.tables import figures_table


def test_a_pipe_gets_whole_numbers_and_a_set_width_counts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = figures_table("figure", numbers=[f"column {number}" for number in range(8)])
    table.add_row("relearning.other_wordings_100", *["0.0909090909"] * 8)
    monkeypatch.delenv("COLUMNS", raising=False)
    result_console().print(table)
    assert capsys.readouterr().out.count("0.0909090909") == 8
    monkeypatch.setenv("COLUMNS", "60")
    assert result_console().width == 60
