"""What pages say of the code stands in the code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

import pytest

from bench.gpu import wanted
from bench.parts import line_table
from bench.parts.commits_table import fill_table
from bench.parts.evaluation_page import fill_tables
from bench.robustness import BARS
from compare.contenders import all_contenders
from jobs.catalog import ModelTable
from jobs.settings import Settings
from tests.docs.pages import PAGES, text_of
from vgid_core.serving.judgement import Kind

# Pages that are to be read in one go, and how many lines they may have.
SHORT = {"README.md": 130, "ARCHITECTURE.md": 90, "docs/method.md": 120, "docs/research/log.md": 260}
SHORT |= dict.fromkeys(("docs/performance.md", "docs/tutorials/own-model.md", "docs/tutorials/what-is-left.md"), 200)
_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
_DATE = re.compile(rf"\b20\d\d-\d\d-\d\d\b|\b\d{{1,2}} (?:{_MONTHS})\b")
_COMMIT = re.compile(r"`(?=[0-9]*[a-f])[0-9a-f]{7,40}`|\bcommit [0-9a-f]{7,40}\b")
# Dates of libraries' releases are what that decision is about; a changelog has dates of releases.
_DATED = {"docs/adr/0002-child-processes.md", "CHANGELOG.md"}


@pytest.mark.parametrize("page", SHORT)
def test_some_pages_stay_short(page: str) -> None:
    assert len(text_of(page).splitlines()) <= SHORT[page]


@pytest.mark.parametrize("page", [page for page in PAGES if page not in _DATED])
def test_a_page_says_what_is_true_now(page: str) -> None:
    """No dates, and no commits of this project's own but those that figures are of."""
    text = re.sub(r"^```.*?^```", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"<!-- figures: commits -->.*?<!-- end -->", "", text, flags=re.DOTALL)
    assert not _DATE.findall(text)
    assert not _COMMIT.findall(text)


@pytest.mark.parametrize("page", PAGES)
def test_figures_stand_between_marks(page: str) -> None:
    """Those that a bench gives can be replaced, so each mark has its end."""
    open_marks = 0
    for mark in re.findall(r"<!-- (figures: [\w -]+|demo output|end) -->", text_of(page)):
        open_marks += -1 if mark == "end" else 1
        assert open_marks in (0, 1), mark
    assert open_marks == 0


def test_evaluation_lists_every_bar() -> None:
    listed = re.findall(r"^\|.*\| `([\w.]+)` \| ([\d.]+) \|$", text_of("docs/evaluation.md"), re.MULTILINE)
    assert {key: float(bar) for key, bar in listed} == BARS


def test_evaluations_tables_are_those_of_the_results() -> None:
    page = text_of("docs/evaluation.md")
    assert fill_tables(page) == page, "python -m bench.parts.evaluation_page"


def test_the_table_of_releases_is_that_of_the_results() -> None:
    page = text_of("docs/concepts/releases.md")
    assert line_table.fill(page) == page, "python -m bench.parts.line_table"


def test_the_comparison_says_what_every_contender_does() -> None:
    section = text_of("docs/comparison.md").partition("## Who takes part")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([\w-]+)` \|", section, re.MULTILINE)) == all_contenders().keys()


def test_every_result_has_its_commit() -> None:
    page = text_of("bench/results/README.md")
    assert fill_table(page) == page, "python -m bench.parts.commits_table"


def test_what_needs_a_gpu_is_what_its_command_runs() -> None:
    section = text_of("docs/how-to/gpu.md").partition("## Measure it")[2].partition("\n## ")[0]
    listed = set(re.findall(r"^\| .* \| `python -m (.+)` \|$", section, re.MULTILINE))
    benches = [each.command for each in wanted(Path("models")) if each.command[0].startswith("bench.")]
    assert listed == {" ".join(command) for command in benches}


def test_the_services_settings_are_listed_with_their_defaults() -> None:
    rows = re.findall(
        r"^\| `VGID_(\w+)` \| (?:`([^`]*)`|required|none) \|", text_of("docs/reference/service.md"), re.MULTILINE
    )
    listed = {name.lower(): default for name, default in rows}
    known = {
        name: "" if field.is_required() or field.default is None else _as_variable(field.default)
        for name, field in Settings.model_fields.items()
    }
    assert listed == known


def _as_variable(value: object) -> str:
    """As the environment gives it: a text as it is, everything else in JSON."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def test_the_catalogs_keys_are_listed() -> None:
    section = text_of("docs/reference/service.md").partition("## The catalog")[2].partition("## Keys")[0]
    listed = set(re.findall(r"^\| `([a-z_]+)[`.]", section, re.MULTILINE))
    assert listed == set(ModelTable.model_fields)


def test_every_finding_about_a_server_is_explained() -> None:
    section = text_of("docs/how-to/verify-serving.md").partition("## What is found")[2].partition("\n## ")[0]
    first_cells = re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE)
    assert {name for cell in first_cells for name in re.findall(r"`([\w-]+)`", cell)} == set(get_args(Kind))
