"""Run files with a `[compare]` table."""

from __future__ import annotations

from pydantic import Field

from compare.plan import Budget, Methods
from vgid_core.cli.inputs.run_file import FilePath, RunFile, SetName


class ComparisonOptions(Budget):
    """The `[compare]` table: output folder, contenders, and the tuning budget of each method."""

    out: FilePath | None = Field(default=None, description="the comparison's folder")
    kept: dict[SetName, FilePath] = Field(
        default_factory=dict, description="more sets that must stay known and are only measured, by name"
    )
    methods: Methods | None = Field(default=None, min_length=1, description="the contenders; by default all")
    seeds: int = Field(default=3, ge=1, le=20, description="runs of each method's chosen setting")


class ComparisonRunFile(RunFile):
    """A run file with a `[compare]` table."""

    compare: ComparisonOptions = Field(default=ComparisonOptions(), description="options of `vgid compare`")
