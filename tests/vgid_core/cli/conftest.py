"""Commands as typed, on a tiny model and its data."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from tests.vgid_core.support.tiny import pair_set
from vgid_core.cli.unlearn import unlearn

SETTINGS = """
[config]
device = "cpu"
[config.training]
steps = 4
forget_batch_size = 4
retain_batch_size = 4
learning_rate = 3e-3
warmup_steps = 1
[config.evaluation]
audits = "none"
max_new_tokens = 6
"""


def invoke(command: Callable[..., None], *arguments: str | Path, typed: str | None = None) -> Result:
    """`vgid COMMAND ARGUMENTS`, on a terminal wide enough for every line."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(command)
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(argument) for argument in arguments], input=typed)


@dataclass(frozen=True)
class Place:
    """A folder with a run file, its data, and the model that it names."""

    folder: Path
    file: Path
    model: Path

    @property
    def out(self) -> Path:
        return self.folder / "adapter"

    def names(self) -> set[str]:
        return {file.name for file in self.folder.iterdir()}


def make_place(folder: Path, model: Path) -> Place:
    folder.mkdir(exist_ok=True)
    pair_set("forget", 4).write_jsonl(folder / "forget.jsonl")
    pair_set("retain", 6, first_picture=20).write_jsonl(folder / "retain.jsonl")
    pair_set("rephrased", 2, first_picture=40).write_jsonl(folder / "rephrased.jsonl")
    file = folder / "run.toml"
    file.write_text(
        f'model = {json.dumps(str(model))}\nmodel_name = "tiny"\nforget = "forget.jsonl"\nretain = "retain.jsonl"\n'
        f'out = "adapter"\n[probes]\nrephrased = "rephrased.jsonl"\n{SETTINGS}',
        encoding="utf-8",
    )
    return Place(folder, file, model)


@pytest.fixture
def place(tmp_path: Path, tiny_folder: Path) -> Place:
    """Nothing has run here yet."""
    return make_place(tmp_path / "place", tiny_folder)


@dataclass(frozen=True)
class Done:
    """A finished run: what it printed as JSON, and where its TensorBoard events are."""

    place: Place
    said: dict
    stderr: str
    events: Path


@pytest.fixture(scope="package")
def done(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Done:
    """One whole run, which several tests look at and none changes."""
    place = make_place(tmp_path_factory.mktemp("done") / "place", tiny_folder)
    events = place.folder / "events"
    result = invoke(unlearn, place.file, "--json", "--tensorboard", events)
    assert result.exit_code == 0, result.output
    return Done(place, json.loads(result.stdout), result.stderr, events)
