"""A run file with a `[compare]` table: what a comparison is told besides."""

from __future__ import annotations

from pydantic import Field

from compare.plan import Budget, Methods
from vgid_core.cli.run_file import FilePath, RunFile, SetName


class Comparison(Budget):
    """What `vgid compare` is told besides: where to, who takes part, and the trials that every method gets."""

    out: FilePath | None = Field(default=None, description="the comparison's folder")
    kept: dict[SetName, FilePath] = Field(
        default_factory=dict, description="more sets that must stay known, measured and never trained on, by name"
    )
    methods: Methods | None = Field(default=None, min_length=1, description="who takes part; else all")
    seeds: int = Field(default=3, ge=1, le=20, description="runs of each method's chosen setting")


class ComparisonRunFile(RunFile):
    """A run file whose `[compare]` table is read."""

    compare: Comparison = Field(default=Comparison(), description="what `vgid compare` is told besides")
