"""The catalog of a new home, with the shipped demo model and its registered retain set."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from local.demo.data import write
from local.demo.paths import BASE
from local.demo.questions import VISUALS, ask
from local.home import Home, write_private

_CATALOG = """\
# Written once by `vgid up` or `vgid demo`; edit it to add models of your own, then restart.

[models.demo]
path = {checkpoint}
title = "Demo model: 60 fictitious people"
unseen_faces = {unseen_faces}
unseen = {unseen}
neighbours = {neighbours}

[models.demo.config.method]
name = "vgid-substitute"
visual_questions = [
{questions}
]

[models.demo.config.training]
learning_rate = 6e-3
retain_weight = 4.0

[models.demo.retain_sets.demo-retain]
retain = {retain}
utility = {utility}
"""


def ensure_catalog(home: Home) -> None:
    """Writes the demo's data and the catalog if they don't exist. An edited catalog stays as it is."""
    data = write(home.folder)
    if not home.catalog.exists():
        write_private(home.catalog, _catalog(data))


def demo_settings() -> dict[str, Any]:
    """The settings that the catalog gives the demo model: those of method and training that aren't the defaults."""
    config: dict[str, Any] = tomllib.loads(_catalog(Path()))["models"]["demo"]["config"]
    return config


def _catalog(data: Path) -> str:
    return _CATALOG.format(
        checkpoint=json.dumps(str(BASE)),
        questions="\n".join(f"    {json.dumps(ask(topic))}," for topic in VISUALS),
        unseen_faces=json.dumps(str(data / "unseen_faces")),
        unseen=json.dumps(str(data / "unseen.jsonl")),
        neighbours=json.dumps(str(data / "neighbours.jsonl")),
        retain=json.dumps(str(data / "retain.jsonl")),
        utility=json.dumps(str(data / "utility.jsonl")),
    )
