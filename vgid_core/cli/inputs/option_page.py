"""Generates docs/reference/options.md from the settings classes.

python -m vgid_core.cli.inputs.option_page > docs/reference/options.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from inspect import getdoc

from pydantic import BaseModel

from vgid_core.cli.inputs.config_errors import Option, options_of
from vgid_core.cli.inputs.run_file import RunFile
from vgid_core.config import UnlearnConfig
from vgid_core.config.method_base import Method

_INTRODUCTION = """\
# Every option

Written by `python -m vgid_core.cli.inputs.option_page` from the settings; a test fails when it is out of date.

A setting can stand in a run file under `[config]` (`vgid unlearn RUN.toml`), in a catalog's `[models.NAME.config]`, in
`UnlearnConfig.model_validate({...})`, or after `--set` with dots: `--set training.steps=100`. A method's name stands
for that method with its own defaults: `--set method=NAME`. Unknown names and values out of range are refused before a
model is loaded.
"""
_RUN_FILE = """\
## The run file

For `vgid unlearn`, `vgid evaluate`, `vgid chat` and `vgid compare`, which says itself what its table `[compare]` takes.
Paths start at the file.
"""


def page() -> str:
    """The whole page, in Markdown."""
    tables = ("config", "compare")
    parts = [_INTRODUCTION, _RUN_FILE, _table(option for option in options_of(RunFile) if option.name not in tables)]
    parts += ["### `[config]`\n\nTakes everything that follows.\n", *_sections(UnlearnConfig, "")]
    return "\n".join(parts)


def _sections(settings: type[BaseModel], prefix: str) -> Iterator[str]:
    """A section for `settings` and, after it, one for each class of settings inside."""
    title = f"`{prefix}`" if prefix else "The settings of a run"
    if issubclass(settings, Method):
        title += f" = {settings.model_fields['name'].default}"
    yield f"## {title}\n"
    yield f"{getdoc(settings)}\n"
    # A method's name stands in the title.
    found = [option for option in options_of(settings) if not (issubclass(settings, Method) and option.name == "name")]
    yield _table(found)
    for option in found:
        for inside in option.inside:
            yield from _sections(inside, f"{prefix}.{option.name}" if prefix else option.name)


def _table(found: Iterator[Option] | list[Option]) -> str:
    rows = ["| option | values | default | what it does |", "|---|---|---|---|"]
    for option in found:
        values = ", ".join(part for part in (option.kind, option.bounds) if part)
        meaning = option.meaning or ("see below" if option.inside else "")
        cells = [f"`{option.name}`", values, option.default, meaning]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
