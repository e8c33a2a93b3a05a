"""Names of flags in error messages, so that an error about a typed flag doesn't point to the run file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

_MISSING = re.compile(r"([\w.]+): Field required")


class Setting(NamedTuple):
    """A setting given by a flag: its dotted config key, its value, and the flag's name in messages."""

    key: str
    value: Any
    flag: str


def flags_by_key(given: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yields each given flag's dotted key and the flag's name."""
    for name, value in given.items():
        flag = f"--{name.replace('_', '-')}"
        if name == "compare":
            yield from flags_by_key(value, "compare.")
        elif isinstance(value, Mapping):
            yield from ((f"{prefix}{name}.{inside}", f"{flag.removesuffix('s')} {inside}") for inside in value)
        else:
            yield f"{prefix}{name}", flag


def name_source(line: str, file: Path | None, flags: Mapping[str, str]) -> str:
    """An error line with the key's source: the flag in place of the key, or the file's name before it.

    line: begins with a dotted key. flags: names of flags by key; a flag can set a whole table that holds the key.
    """
    for key in sorted(flags, key=len, reverse=True):
        if line.startswith((f"{key}:", f"{key}.")):
            return flags[key] + line.removeprefix(key)
    if missing := _MISSING.fullmatch(line):
        table = f"{missing[1].rpartition('.')[0]}."
        for key, flag in flags.items():
            if key.startswith(table):
                return f"{flag}: needs {missing[1]}, too"
    return line if file is None else f"{file}: {line}"
