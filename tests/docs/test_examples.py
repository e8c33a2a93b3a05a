"""Python in the documentation is run; run files, requests and commands are read by what would read them, never run."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

import pytest

from api.schemas import EvaluationRequest, SubmitRequest
from compare.run_file import ComparisonRunFile
from jobs.catalog import CatalogFile
from tests.docs.commands import (
    after_program,
    fault_in,
    fault_in_module,
    lines_of,
    simple_commands,
    unknown_in,
)
from tests.docs.pages import PAGES, ROOT, Block, blocks, blocks_of, prose_of

# What each page's Python finds in the folder that it runs in: fixtures of conftest.py.
NEEDS = {
    "README.md": "library",
    "docs/how-to/erase.md": "adapter",
    "docs/how-to/http.md": "served",
    "docs/how-to/long-runs.md": "library",
    "docs/how-to/register-model.md": "library",
    "docs/reference/data.md": "benchmarks",
    "docs/reference/interventions.md": "nothing",
    "docs/reference/models.md": "library",
    "docs/tutorials/own-model.md": "demo",
}
# The service of the tests knows another model.
STANDS_FOR = {'"demo"': '"tiny"', '"demo-retain"': '"all"'}
_TOML, _JSON, _CONSOLE = blocks("toml"), blocks("json"), blocks("console")
_TARGET = re.compile(r"^([\w.-]+):", re.MULTILINE)


def test_every_page_with_python_says_what_it_needs() -> None:
    assert {block.page for block in blocks("python")} == set(NEEDS)


@pytest.mark.parametrize("page", NEEDS)
def test_the_pages_python_runs_as_written(page: str, request: pytest.FixtureRequest) -> None:
    """Block after block, as somebody types them who reads the page."""
    request.getfixturevalue(NEEDS[page])
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks_of(page):
        if block.language == "python":
            text = block.text
            if NEEDS[page] == "served":
                for written, meant in STANDS_FOR.items():
                    text = text.replace(written, meant)
            exec(compile("\n" * (block.line - 1) + text, str(ROOT / page), "exec"), names)


@pytest.mark.parametrize("block", _TOML, ids=str)
def test_toml_is_a_run_file_or_a_catalog(block: Block) -> None:
    values = tomllib.loads(block.text)
    if "models" in values:
        CatalogFile.model_validate(values)
    else:
        ComparisonRunFile.model_validate(values)


@pytest.mark.parametrize("block", _JSON, ids=str)
def test_json_is_a_request_or_a_line_of_a_set(block: Block) -> None:
    values = json.loads(block.text)
    if "model" in values:
        schema = EvaluationRequest if "adapter_of" in values else SubmitRequest
        schema.model_validate_json(block.text)
    else:
        assert {"image", "question", "answer"} <= set(values) <= {"image", "question", "answer", "person", "fact"}


@pytest.mark.parametrize("block", _CONSOLE, ids=str)
def test_what_is_typed_would_be_taken(block: Block) -> None:
    """Commands and options of vgid, modules and their options, targets of make."""
    lines = list(lines_of(block.text))
    assert lines, "a console block says what is typed, after `$ `"
    for line in lines:
        for words in simple_commands(line):
            if (arguments := after_program(words, "vgid")) is not None:
                assert fault_in(arguments) is None, line
            elif (arguments := after_program(words, "python")) is not None and arguments[:1] == ["-m"]:
                assert fault_in_module(arguments[1:]) is None, line
            elif words[:1] == ["make"]:
                assert set(words[1:]) <= _targets(), line


@pytest.mark.parametrize("page", PAGES)
def test_what_the_text_calls_a_command_is_one(page: str) -> None:
    if page == "docs/research/log.md":  # about commands that were
        return
    for text in re.findall(r"`([^`\n]+)`", prose_of(page)):
        words = text.split()
        if words[0] == "vgid" and len(words) > 1:
            assert unknown_in(words[1:]) is None, text
        elif words[:2] == ["python", "-m"]:
            assert fault_in_module([word for word in words[2:] if word not in "<>"]) is None, text
        elif words[0] == "make" and len(words) > 1:
            assert set(words[1:]) <= _targets(), text


def _targets() -> set[str]:
    return set(_TARGET.findall((ROOT / "Makefile").read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "arguments",
    [["unlern"], ["unlearn", "--stepz", "3"], ["keys", "create"], ["data", "check"], ["jobs", "--limit", "x"]],
)
def test_a_mistake_would_be_noticed(arguments: list[str]) -> None:
    assert fault_in(arguments) is not None
    assert fault_in_module(["bench.robustness", "--no-such-option"]) is not None
    assert fault_in_module(["bench.no_such_bench"]) is not None
