"""The shapes of what was measured of a job: metrics, and the verdict on its audits."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from jobs.repository import Measurement


class _View(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class MetricView(_View):
    """One figure of one set, before and after forgetting; null until it is measured."""

    split: str = Field(description="forget, retain, utility, or a probe's name")
    name: str = Field(description="`rouge_l` or `answer_probability`, both 0 to 1")
    before: float | None
    after: float | None
    pairs: int


class TargetView(_View):
    """A target that is missed."""

    figure: str
    set: str
    value: float
    low: float = Field(description="of the 95 % interval, by the bootstrap over people")
    high: float
    amount: float = Field(description="what the target limits: see `judged`")
    judged: str = Field(description="`above control`, `distance from chance`, or `value`")
    limit: float
    meaning: str


class VerdictView(_View):
    """What the audits came to. The whole evidence stands at the link `evidence`."""

    level: str
    missed: list[TargetView] = Field(description="empty if every target holds")
    unmeasured: list[str] = Field(description="claims for which nothing was measured")


class MetricList(_View):
    """What has been measured so far, before and after forgetting."""

    metrics: list[MetricView]


def metric_views(rows: Sequence[Measurement]) -> list[MetricView]:
    """One view per set and figure, with before and after side by side, in the order of the rows."""
    views: dict[tuple[str, str], MetricView] = {}
    for row in rows:
        empty = MetricView(split=row.split, name=row.name, before=None, after=None, pairs=row.pairs)
        setattr(views.setdefault((row.split, row.name), empty), row.stage, row.value)
    return list(views.values())
