"""The catalog: the models that can be made to forget, read from one TOML file. Any mistake in it stops the start.

[models.demo]
path = "./models/demo"          # a folder (relative to this file), or a hub id such as "org/name"
title = "Demo model"
max_pairs = 500                 # optional, below the installation's limit
unseen_faces = "data/unseen_faces"    # optional: photos of people whom the model has never seen
unlabelled = "data/photos"      # optional: photos of anybody; the model's answers about them are to stay
unseen = "data/never.jsonl" # optional: pairs about people whom the model has never seen, the audits' control
neighbours = "data/others.jsonl" # optional: known people whom no other set holds; what they lose is measured
line = "per client"             # optional: each client has releases of its own; else "shared", all have the same
[models.demo.config.verdict]    # optional: targets that a request can only tighten
said = 0.1
[models.demo.config]
preset = "paper"                # optional: settings to start from (vgid_core.config.presets)
[models.demo.config.training]   # optional: any part of UnlearnConfig
steps = 60
[models.demo.retain_sets.people]
retain = "data/retain.jsonl"
utility = "data/utility.jsonl"  # optional

Unseen faces and unlabelled photos are a folder of images, or a JSONL file. Of this only the photos are used: its
questions and answers are dropped.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from jobs.states import SHARED_LINE
from vgid_core.config import UnlearnConfig

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
LineKind = Literal["shared", "per client"]
_Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]


class CatalogError(Exception):
    """The file can't be used. The message names the file, the model and the key."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _RetainSetTable(_Strict):
    retain: str
    utility: str | None = None


class ModelTable(_Strict):
    """One model's table."""

    path: str = Field(min_length=1)
    title: str = Field(min_length=1, max_length=200)
    max_pairs: int | None = Field(default=None, gt=0)
    unseen_faces: str | None = None
    unlabelled: str | None = None
    unseen: str | None = None
    neighbours: str | None = None
    line: LineKind = "shared"
    config: UnlearnConfig = UnlearnConfig()
    retain_sets: dict[_Name, _RetainSetTable] = Field(default_factory=dict)

    @field_validator("config")
    @classmethod
    def _names_nobody(cls, value: UnlearnConfig) -> UnlearnConfig:
        if value.names_a_person:
            raise ValueError("method.subject_name is one person's: a model's settings are for every request")
        return value


class CatalogFile(_Strict):
    """The whole file, before its paths are followed."""

    models: dict[_Name, ModelTable] = Field(min_length=1)


@dataclass(frozen=True)
class RetainSet:
    """A model's registered data, as JSONL files. retain: what must stay known. utility: what must still be answered."""

    retain: Path
    utility: Path | None


@dataclass(frozen=True)
class ModelEntry:
    """One model.

    path: an absolute folder, or a hub id.
    max_pairs: pairs of one request; None leaves it at the installation's limit.
    unseen_faces: photos of people whom the model has never seen. unlabelled: photos of anybody. Both without questions.
    unseen: pairs about people whom the model has never seen. neighbours: pairs about known people in no other set.
    line: whether its clients share their releases.
    """

    name: str
    title: str
    path: str
    config: UnlearnConfig
    max_pairs: int | None = None
    unseen_faces: Path | None = None
    unlabelled: Path | None = None
    unseen: Path | None = None
    neighbours: Path | None = None
    line: LineKind = "shared"
    retain_sets: Mapping[str, RetainSet] = field(default_factory=dict)

    @property
    def default_retain_set(self) -> str | None:
        """The retain set of a request that names none: the only one, or None if there are several or none."""
        return next(iter(self.retain_sets)) if len(self.retain_sets) == 1 else None

    def line_of(self, client_id: UUID) -> str:
        """The line in which this client's requests are run, as `Job.line` holds it."""
        return SHARED_LINE if self.line == "shared" else str(client_id)


@dataclass(frozen=True)
class Catalog:
    """All models, by name, in the file's order."""

    models: Mapping[str, ModelEntry]

    @classmethod
    def load(cls, path: Path) -> Catalog:
        """Reads the file and checks it, and that every file and folder in it exists. Raises CatalogError."""
        try:
            parsed = CatalogFile.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise CatalogError(f"{path}: can't be read ({error.strerror})") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise CatalogError(f"{path}: isn't TOML: {error}") from None
        except ValidationError as error:
            raise CatalogError("\n".join(f"{path}: {line}" for line in _error_lines(error))) from None
        folder = path.resolve().parent
        return cls({name: _model_entry(name, table, folder, path) for name, table in parsed.models.items()})

    def model(self, name: str) -> ModelEntry | None:
        """The model of that name, or None."""
        return self.models.get(name)


def _error_lines(error: ValidationError) -> list[str]:
    lines = []
    for problem in error.errors():
        # Pydantic marks a bad dictionary key with a trailing '[key]'.
        place = ".".join(str(part) for part in problem["loc"] if part != "[key]")
        lines.append(f"{place}: {problem['msg']}" if place else problem["msg"])
    return lines


def _model_entry(name: str, table: ModelTable, folder: Path, source: Path) -> ModelEntry:
    where = f"{source}: models.{name}"
    retain_sets = {}
    for set_name, retain_set in table.retain_sets.items():
        place = f"{where}.retain_sets.{set_name}"
        retain_sets[set_name] = RetainSet(
            retain=_file(folder, retain_set.retain, f"{place}.retain"),
            utility=_optional_file(folder, retain_set.utility, f"{place}.utility"),
        )
    return ModelEntry(
        name=name,
        title=table.title,
        path=_model_path(folder, table.path, f"{where}.path"),
        config=table.config,
        max_pairs=table.max_pairs,
        unseen_faces=_photos(folder, table.unseen_faces, f"{where}.unseen_faces"),
        unlabelled=_photos(folder, table.unlabelled, f"{where}.unlabelled"),
        unseen=_optional_file(folder, table.unseen, f"{where}.unseen"),
        neighbours=_optional_file(folder, table.neighbours, f"{where}.neighbours"),
        line=table.line,
        retain_sets=retain_sets,
    )


def _model_path(folder: Path, text: str, where: str) -> str:
    local = folder / text
    if local.is_dir():
        return str(local.resolve())
    if _HUB_ID.fullmatch(text) and not text.startswith("."):
        return text
    raise CatalogError(f"{where}: no folder {local}")


def _photos(folder: Path, text: str | None, where: str) -> Path | None:
    if text is None:
        return None
    path = (folder / text).resolve()
    if not path.exists():
        raise CatalogError(f"{where}: no file or folder {path}")
    return path


def _optional_file(folder: Path, text: str | None, where: str) -> Path | None:
    return None if text is None else _file(folder, text, where)


def _file(folder: Path, text: str, where: str) -> Path:
    path = (folder / text).resolve()
    if not path.is_file():
        raise CatalogError(f"{where}: no file {path}")
    return path
