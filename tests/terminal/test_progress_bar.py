"""A run's progress, as whoever sits before the terminal sees it, or finds it in a file."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from functools import partial
from io import StringIO

import pytest
from rich.console import Console

from terminal.progress_bar import ProgressBar
from tests.waiting import eventually
from vgid_core.cli.reports.progress_bar import show_progress
from vgid_core.progress import Phase, Progress

WIDTH = 80
REPORTS = [
    (Progress(Phase.loading), ["0%"]),
    (Progress(Phase.baseline, 0, 96, 0.1), ["10%"]),
    (
        Progress(Phase.distilling, 24, 96, 0.4, loss_forget=1.617, loss_retain=0.129, seconds_left=17),
        ["40%", "step 24/96", "loss forget 1.617 retain 0.129", "17 s left"],
    ),
    (
        Progress(Phase.evaluating, 96, 96, 0.83, loss_forget=1.233, loss_retain=0.02, seconds_left=1.5),
        ["83%", "step 96/96", "loss forget 1.233 retain 0.020", "1.5 s left"],
    ),
    (
        Progress(Phase.packaging, 96, 96, 0.98, loss_forget=1.233, loss_retain=0.02, seconds_left=0),
        ["98%", "step 96/96", "loss forget 1.233 retain 0.020", "0.0 s left"],
    ),
]


class Terminal:
    """As much of one as a live display asks for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TERM", "xterm")  # a dumb one gets no live display, whatever the console is told
        self._written = StringIO()
        self.console = Console(force_terminal=True, file=self._written, width=WIDTH, color_system=None)

    @property
    def cursor_is_hidden(self) -> bool:
        written = self._written.getvalue()
        return written.rfind("\x1b[?25l") > written.rfind("\x1b[?25h")

    @property
    def rows(self) -> list[str]:
        """What is on the screen."""
        rows, row, column = [""], 0, 0
        for part in re.findall(r"\x1b\[\??\d*[A-Za-z]|[\r\n]|[^\x1b\r\n]+", self._written.getvalue()):
            if part == "\r":
                column = 0
            elif part == "\n":
                row, column = row + 1, 0
                rows += [""] * (row == len(rows))
            elif part == "\x1b[1A":
                row -= 1
            elif part == "\x1b[2K":
                rows[row] = ""
            elif not part.startswith("\x1b[?25"):
                assert not part.startswith("\x1b"), f"{part!r} means nothing to this terminal"
                before, after = rows[row][:column].ljust(column), rows[row][column + len(part) :]
                rows[row], column = before + part + after, column + len(part)
        return rows

    def shows(self, *parts: str) -> bool:
        """Whether each of them is on the screen, be it broken between words."""
        words = " ".join(" ".join(self.rows).split())
        return all(part in words for part in parts)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    return Terminal(monkeypatch)


def test_each_phase_is_shown_while_it_lasts_and_nothing_stays(terminal: Terminal) -> None:
    assert [report.phase for report, _ in REPORTS] == list(Phase)
    printed_to = sys.stdout
    with ProgressBar(terminal.console, "loading", stays=False) as bar:
        for report, parts in REPORTS:
            show_progress(bar, report)
            eventually(partial(terminal.shows, report.phase, *parts))
            [row] = [row for row in terminal.rows if row.strip()]
            assert len(row) <= WIDTH
            assert terminal.cursor_is_hidden
    assert not any(terminal.rows)
    assert not terminal.cursor_is_hidden
    assert sys.stdout is printed_to
    terminal.console.print("done")
    assert [row for row in terminal.rows if row] == ["done"]


def test_a_long_runs_figures_are_whole(terminal: Terminal) -> None:
    report = Progress(Phase.distilling, 1024, 2560, 0.4, loss_forget=11.617, loss_retain=10.129, seconds_left=16980)
    with ProgressBar(terminal.console, "loading", stays=False) as bar:
        show_progress(bar, report)
        parts = ("distilling", "40%", "step 1024/2560", "loss forget 11.617 retain 10.129", "4 h 43 min left")
        eventually(partial(terminal.shows, *parts))
        assert max(map(len, terminal.rows)) <= WIDTH
    assert not any(terminal.rows)


@pytest.mark.parametrize("reason", [KeyboardInterrupt, RuntimeError])
def test_a_run_that_fails_leaves_the_terminal_as_it_was(terminal: Terminal, reason: type[BaseException]) -> None:
    with suppress(reason), ProgressBar(terminal.console, "loading", stays=False) as bar:
        show_progress(bar, REPORTS[2][0])
        raise reason
    assert not any(terminal.rows)
    assert not terminal.cursor_is_hidden


def test_a_bar_that_stays_leaves_its_last_report_word_for_word(terminal: Terminal) -> None:
    with ProgressBar(terminal.console, "waiting", stays=True) as bar:
        eventually(partial(terminal.shows, "waiting"))
        bar.show("failed", 0.5, "2 of 8 modules [red] never moved")
    assert terminal.shows("failed", "50%", "2 of 8 modules [red] never moved")
    assert not terminal.cursor_is_hidden


def test_a_file_gets_a_line_a_phase() -> None:
    written = StringIO()
    with ProgressBar(Console(file=written, width=20), "waiting", stays=False) as bar:
        for phase, fraction, detail in (
            ("loading", 0.0, ""),
            ("loading", 0.1, ""),
            ("evaluating", 0.8, "[a] long one"),
        ):
            bar.show(phase, fraction, detail)
    assert written.getvalue().splitlines() == ["  loading      0%", "  evaluating  80%  [a] long one"]
