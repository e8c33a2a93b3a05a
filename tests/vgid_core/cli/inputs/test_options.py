"""The page on every option, and the commands' names."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from importlib import import_module
from inspect import getdoc
from pathlib import Path

import pytest
import typer
from pydantic import BaseModel

from compare.command import compare
from vgid_client.commands import app
from vgid_core.cli.chat import chat
from vgid_core.cli.data import check
from vgid_core.cli.evaluate import evaluate
from vgid_core.cli.inputs.config_errors import options_of
from vgid_core.cli.inputs.option_page import page
from vgid_core.cli.inputs.run_file import RunFile
from vgid_core.cli.unlearn import unlearn
from vgid_core.config.method_base import Method

ROOT = Path(__file__).parents[4]


def test_the_page_of_options_is_current() -> None:
    written = (ROOT / "docs" / "reference" / "options.md").read_text(encoding="utf-8")
    assert page() == written, "python -m vgid_core.cli.inputs.option_page > docs/reference/options.md"


def test_every_option_says_what_it_does() -> None:
    """By its own description, or in the words of the class that it belongs to."""
    assert list(_unexplained(RunFile)) == []


@pytest.mark.parametrize(
    ("name", "command"),
    [("unlearn", unlearn), ("evaluate", evaluate), ("compare", compare), ("chat", chat), ("data check", check)],
)
def test_the_commands_page_names_every_option(name: str, command: Callable[..., None]) -> None:
    """In the command's own section: the others take options by the same names."""
    page_text = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    section = page_text.partition(f"## `vgid {name}`\n")[2].partition("\n## ")[0]
    app = typer.Typer(add_completion=False)
    app.command()(command)
    for parameter in typer.main.get_command(app).params:
        options = [option for option in parameter.opts if option.startswith("--")]
        named = options[0] if options else parameter.metavar or ""
        assert re.search(rf"`{re.escape(named)}[ `]", section), named


def test_no_commands_name_is_taken_twice() -> None:
    registered = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    added = registered["project"]["entry-points"]["vgid.commands"]
    own = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    assert not own & set(added)
    for target in added.values():
        module, _, name = target.partition(":")
        assert callable(getattr(import_module(module), name)), target


def _unexplained(settings: type[BaseModel]) -> Iterator[str]:
    for option in options_of(settings):
        named_in_title = issubclass(settings, Method) and option.name == "name"
        if not (option.inside or option.meaning or named_in_title or f"`{option.name}`" in (getdoc(settings) or "")):
            yield f"{settings.__name__}.{option.name}"
        for inside in option.inside:
            yield from _unexplained(inside)
