"""What a flag is called in a message, so that nobody looks in a run file for what was typed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

_MISSING = re.compile(r"([\w.]+): Field required")


class Setting(NamedTuple):
    """What a flag sets: a dotted key of the config, its value, and the flag as messages name it."""

    key: str
    value: Any
    flag: str


def typed_in(given: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, str]]:
    """The dotted key of each flag, and the flag."""
    for name, value in given.items():
        flag = f"--{name.replace('_', '-')}"
        if name == "compare":
            yield from typed_in(value, "compare.")
        elif isinstance(value, Mapping):
            yield from ((f"{place}{name}.{inside}", f"{flag.removesuffix('s')} {inside}") for inside in value)
        else:
            yield f"{place}{name}", flag


def blamed(line: str, file: Path | None, typed: Mapping[str, str]) -> str:
    """`line`, which begins with its key, with the flag in the key's place if one gave it, else after the file's name.

    A flag may stand for a whole table, in which the key lies.
    """
    for key in sorted(typed, key=len, reverse=True):
        if line.startswith((f"{key}:", f"{key}.")):
            return typed[key] + line.removeprefix(key)
    if missing := _MISSING.fullmatch(line):
        table = f"{missing[1].rpartition('.')[0]}."
        for key, flag in typed.items():
            if key.startswith(table):
                return f"{flag}: needs {missing[1]} beside it"
    return line if file is None else f"{file}: {line}"
