"""Command-line options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RunFileArgument = Annotated[
    Path | None,
    typer.Argument(metavar="RUN.toml", help="A run file; flags override what it says.", show_default=False),
]
Model = Annotated[str | None, typer.Option(help="The base: a folder or a hub id.", show_default=False)]
Forget = Annotated[str | None, typer.Option(metavar="SOURCE", help="What is to be forgotten.", show_default=False)]
Retain = Annotated[str | None, typer.Option(metavar="SOURCE", help="What must stay known.", show_default=False)]
Utility = Annotated[
    str | None,
    typer.Option(metavar="SOURCE", help="What it must still be able to do; only measured.", show_default=False),
]
Probe = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=SOURCE", help="Another set that is only measured. Repeatable.", show_default=False),
]
ReferenceModel = Annotated[
    str | None,
    typer.Option(metavar="MODEL", help="A model that never saw the forget set, as a yardstick.", show_default=False),
]
NeverSeen = Annotated[
    str | None,
    typer.Option(metavar="SOURCE", help="Pairs like the forgotten ones that no model saw.", show_default=False),
]
Neighbours = Annotated[
    str | None,
    typer.Option(metavar="SOURCE", help="Pairs about known people whom no other set holds.", show_default=False),
]
Facts = Annotated[
    str | None,
    typer.Option(
        metavar="FILE.jsonl", help="Forgotten pairs that are attacked; else the forget set.", show_default=False
    ),
]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.", show_default=False)]
Setting = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Any setting, e.g. training.steps=100. Repeatable.", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Adapter = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Else the run file's `out`, if it is there.", show_default=False),
]
