"""Command lines as the documentation writes them: read, looked up, never run."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer

from tests.docs.pages import ROOT
from vgid_client.commands import app

_LAUNCHERS = ("torchrun", "accelerate", "docker")
# Of the click that typer brings along, or of the one beside it.
_UsageError: Any = typer.BadParameter.__bases__[0]
_COMMENT = re.compile(r"\s#\s.*$")


def lines_of(block: str) -> Iterator[str]:
    """What is typed after `$ `, each with the lines that it goes on on."""
    lines = iter(block.splitlines())
    for line in lines:
        if line.startswith("$ "):
            whole = _COMMENT.sub("", line[2:])
            while whole.endswith("\\"):
                whole = whole[:-1] + _COMMENT.sub("", next(lines).strip())
            yield whole


def simple_commands(line: str) -> Iterator[list[str]]:
    """The words of each command of a line."""
    reader = shlex.shlex(line, posix=True, punctuation_chars=True)
    reader.whitespace_split = True
    reader.commenters = ""
    words: list[str] = []
    for word in reader:
        if set(word) <= set("&|;()<>"):
            yield words
            words = []
        else:
            words.append(word)
    yield words


def after_program(words: list[str], name: str) -> list[str] | None:
    """The arguments of the program of this name, wherever it lies and whatever starts it; None for another program."""
    for place, word in enumerate(words):
        if word.rpartition("/")[2] == name and (place == 0 or words[0] in _LAUNCHERS):
            return words[place + 1 :]
    return None


def fault_in(arguments: list[str]) -> str | None:
    """What `vgid` would say against these arguments before it does anything; None for nothing."""
    command, rest = _command(arguments)
    if command is None:
        return f"no command {' '.join(arguments)}"
    try:
        command.make_context("vgid", rest)
    except _UsageError as error:
        return error.format_message()
    return None


def unknown_in(arguments: list[str]) -> str | None:
    """The command or option that `vgid` doesn't have; what is left out is no fault here."""
    command, rest = _command(arguments)
    if command is None:
        return " ".join(rest) or None  # a group alone is one
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    return next((word for word in rest if word.startswith("--") and word.partition("=")[0] not in known), None)


def fault_in_module(words: list[str]) -> str | None:
    """What is wrong with `python -m` and these words, as far as the module's source tells; None for nothing."""
    module = words[0]
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return f"no module {module}"
    if not Path(spec.origin).is_relative_to(ROOT):
        return None
    source = Path(spec.origin).read_text(encoding="utf-8")
    if "add_method(" in source:  # of bench.parts.methods
        source += '"--method"'
    missing = [word for word in words[1:] if word.startswith("--") and f'"{word}"' not in source]
    return f"{module} has no {', '.join(missing)}" if missing else None


def _command(arguments: list[str]) -> tuple[Any | None, list[str]]:
    """The command that the arguments lead to, and what is left of them; None where there is none."""
    own, rest = _root(), [word for word in arguments if word != "--help"]
    if rest and rest[0] in _registered():
        own = _loaded(rest.pop(0))
    while hasattr(own, "commands"):
        if not rest or rest[0] not in own.commands:
            return None, rest
        own = own.commands[rest.pop(0)]
    return own, rest


@cache
def _root() -> Any:
    return typer.main.get_command(app)


@cache
def _registered() -> dict[str, str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: dict[str, str] = project["entry-points"]["vgid.commands"]
    return found


@cache
def _loaded(name: str) -> Any:
    module, _, attribute = _registered()[name].partition(":")
    found = getattr(import_module(module), attribute)
    if not isinstance(found, typer.Typer):
        command, found = found, typer.Typer(add_completion=False)
        found.command()(command)
    return typer.main.get_command(found)
