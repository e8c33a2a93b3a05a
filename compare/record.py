"""The record of a comparison: one JSON file, rewritten after each run, from which a later comparison resumes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator

from compare.plan import Setting
from vgid_core.config import AttackPlan, TrainingConfig, UnlearnConfig
from vgid_core.config.methods import AnyMethod, Vgid
from vgid_core.config.strict import Strict
from vgid_core.errors import UnlearnError

FORMAT = "vgid-comparison/5"  # increased whenever the meaning of rows changes
Stage = Literal["reference", "trial", "run"]

# Keys of the config that don't apply: rows have their own.
_ROW_KEYS: dict[str, Any] = {
    "method": True,
    "seed": True,
    "training": {"learning_rate", "retain_weight", "steps"},
}


class RecordUnusable(UnlearnError):
    """An earlier comparison's record can't be resumed."""

    code = "comparison-unusable"


class Conditions(Strict):
    """All that determines a row besides its method, setting and seed; models and sets by digest.

    The file calls them "terms". The budget isn't among them, so that a wider grid costs its new points alone.
    """

    data: dict[str, str]
    config: UnlearnConfig
    attacks: AttackPlan
    tuning_seed: int
    model: str
    reference_model: str | None

    @field_validator("config")
    @classmethod
    def _reset_row_keys(cls, config: UnlearnConfig) -> UnlearnConfig:
        default = TrainingConfig()
        reset = {name: getattr(default, name) for name in _ROW_KEYS["training"]}
        training = config.training.model_copy(update=reset)
        return config.model_copy(update={"method": Vgid(), "seed": 0, "training": training})

    def written(self) -> dict[str, Any]:
        """The conditions in JSON types, without the config's keys that don't apply."""
        return self.model_dump(mode="json", exclude={"config": _ROW_KEYS})


class Row(Strict):
    """One measured model: a reference (base or reference model), a tuning trial, or a run of the chosen setting.

    figures: measured values by name. scores: computed from them. seconds: of training alone. A row with an `error` has
    none of these.
    """

    name: str
    stage: Stage
    method: AnyMethod | None = None
    setting: Setting | None = None
    seed: int | None = None
    figures: dict[str, float] = Field(default_factory=dict)
    scores: dict[str, float] = Field(default_factory=dict)
    seconds: float | None = None
    scorer: str | None = None
    error: str | None = None

    def is_of(self, other: Row) -> bool:
        """Whether both rows are of the same run, whatever its result."""
        mine, others = ((row.name, row.stage, row.method, row.setting, row.seed) for row in (self, other))
        return mine == others


def _require_format(path: Path, written_as: str) -> None:
    if written_as != FORMAT:
        raise RecordUnusable(f"{path.name} is of format {written_as[:40]}, not {FORMAT}: start anew elsewhere")


class Record:
    """The rows of a comparison with their conditions, which must be the same to resume.

    Settings that a record of an older version lacks count as their defaults.
    """

    def __init__(self, path: Path, conditions: Conditions, environment: Mapping[str, Any]) -> None:
        self.path = path
        self.rows: list[Row] = []
        self._conditions = conditions
        self._environment = dict(environment)

    @classmethod
    def open(cls, path: Path, conditions: Conditions, environment: Mapping[str, Any], resume: bool) -> Self:
        """A new record, or with `resume` the existing one. Raises RecordUnusable if that isn't possible."""
        if path.exists() and not resume:
            raise RecordUnusable(f"{path.name} is there already: resume goes on with it, another folder starts anew")
        record = cls(path, conditions, environment)
        if not path.exists():
            return record
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            _require_format(path, str(found["format"]))
            recorded = Conditions.model_validate(found["terms"])
            rows = [Row.model_validate(row) for row in found["rows"]]
        except (ValueError, KeyError, TypeError) as error:
            raise RecordUnusable(f"{path.name} isn't a comparison's record: {type(error).__name__}") from None
        differing = [name for name in Conditions.model_fields if getattr(recorded, name) != getattr(conditions, name)]
        if differing:
            raise RecordUnusable(f"{path.name} was made with other {', '.join(differing)}: start anew elsewhere")
        record.rows = rows
        return record

    def keep_only(self, wanted: Callable[[Row], bool]) -> None:
        """Drops the other rows."""
        self.rows = [row for row in self.rows if wanted(row)]

    def found(self, row: Row) -> Row | None:
        """The recorded row of the same run, or None."""
        return next((other for other in self.rows if other.is_of(row)), None)

    def add(self, row: Row) -> None:
        """Adds the row and replaces the file atomically."""
        self.rows.append(row)
        content = {
            "format": FORMAT,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            **self._environment,
            "terms": self._conditions.written(),
            "rows": [row.model_dump(mode="json") for row in self.rows],
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(".new")
        unfinished.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(unfinished, self.path)

    def of(self, name: str, stage: Stage) -> list[Row]:
        """The rows of one name and stage, in the order in which they were added."""
        return [row for row in self.rows if row.name == name and row.stage == stage]
