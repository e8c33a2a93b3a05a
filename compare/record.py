"""What a comparison has found so far: one JSON file, rewritten after every run, that a later one goes on with."""

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

FORMAT = "vgid-comparison/4"  # another number where rows don't mean what they meant
Stage = Literal["reference", "trial", "run"]

# What the config doesn't decide: rows have it of their own, or (targets) a comparison doesn't hear it.
_OF_A_ROW: dict[str, Any] = {
    "method": True,
    "seed": True,
    "training": {"learning_rate", "retain_weight", "steps", "targets"},
}


class RecordUnusable(UnlearnError):
    """The file of an earlier comparison can't be gone on with."""

    code = "comparison-unusable"


class Terms(Strict):
    """All that decides a row besides its own method, setting and seed. Models and sets go by their digests.

    The budget isn't among them: a wider grid costs its new points alone.
    """

    data: dict[str, str]
    config: UnlearnConfig
    attacks: AttackPlan
    tuning_seed: int
    model: str
    twin: str | None

    @field_validator("config")
    @classmethod
    def _without_what_rows_say(cls, config: UnlearnConfig) -> UnlearnConfig:
        plain = TrainingConfig()
        own = {name: getattr(plain, name) for name in _OF_A_ROW["training"]}
        training = config.training.model_copy(update=own)
        return config.model_copy(update={"method": Vgid(), "seed": 0, "training": training})

    def written(self) -> dict[str, Any]:
        """As the file holds it, without settings of the config that no row was run with."""
        return self.model_dump(mode="json", exclude={"config": _OF_A_ROW})


class Row(Strict):
    """One model measured: a reference (the base, the twin), a trial of the tuning, or a run of what was chosen.

    figures are the measured ones by name, scores what they come to. seconds are those of training alone. A row with an
    `error` has neither.
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
        """Whether both are the same run, whatever came of it."""
        mine, others = ((row.name, row.stage, row.method, row.setting, row.seed) for row in (self, other))
        return mine == others


def _require_format(path: Path, written_as: str) -> None:
    if written_as != FORMAT:
        raise RecordUnusable(f"{path.name} is of format {written_as[:40]}, not {FORMAT}: start anew elsewhere")


class Record:
    """Rows beside what they hold for: `terms`, which must be the same where one goes on with them.

    What an older version of this library didn't know of settings counts as their defaults.
    """

    def __init__(self, path: Path, terms: Terms, about: Mapping[str, Any]) -> None:
        self.path = path
        self.rows: list[Row] = []
        self._terms = terms
        self._about = dict(about)

    @classmethod
    def open(cls, path: Path, terms: Terms, about: Mapping[str, Any], resume: bool) -> Self:
        """A new record, or with `resume` the one that is there. Raises RecordUnusable where that makes no sense."""
        if path.exists() and not resume:
            raise RecordUnusable(f"{path.name} is there already: resume goes on with it, another folder starts anew")
        record = cls(path, terms, about)
        if not path.exists():
            return record
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            _require_format(path, str(found["format"]))
            then = Terms.model_validate(found["terms"])
            rows = [Row.model_validate(row) for row in found["rows"]]
        except (ValueError, KeyError, TypeError) as error:
            raise RecordUnusable(f"{path.name} isn't a comparison's record: {type(error).__name__}") from None
        differing = [name for name in Terms.model_fields if getattr(then, name) != getattr(terms, name)]
        if differing:
            raise RecordUnusable(f"{path.name} was made with other {', '.join(differing)}: start anew elsewhere")
        record.rows = rows
        return record

    def keep_only(self, wanted: Callable[[Row], bool]) -> None:
        """Forgets the other rows."""
        self.rows = [row for row in self.rows if wanted(row)]

    def found(self, row: Row) -> Row | None:
        """The row of the same run, if it is there."""
        return next((other for other in self.rows if other.is_of(row)), None)

    def add(self, row: Row) -> None:
        """Keeps the row and writes the file, whole or not at all."""
        self.rows.append(row)
        content = {
            "format": FORMAT,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            **self._about,
            "terms": self._terms.written(),
            "rows": [kept.model_dump(mode="json") for kept in self.rows],
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(".new")
        unfinished.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(unfinished, self.path)

    def of(self, name: str, stage: Stage) -> list[Row]:
        """All rows of one name and stage, in the order in which they came."""
        return [row for row in self.rows if row.name == name and row.stage == stage]
