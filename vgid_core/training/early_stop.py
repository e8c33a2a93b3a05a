"""Early stopping: measures the student every few steps, until the targets hold."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from vgid_core.config import Targets, UnlearnConfig
from vgid_core.data.pairs import PairSet
from vgid_core.data.roles import AuditSets
from vgid_core.evaluation.evaluate import evaluate
from vgid_core.evaluation.evidence import Auditor, Measured
from vgid_core.models import distributed
from vgid_core.models.base import BaseModel
from vgid_core.scoring.scorer import Scorer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TargetCheck:
    """One measurement after `step` steps: ROUGE-L by set, whether all targets held, and the seconds it took."""

    step: int
    rouge_l: Mapping[str, float]
    held: bool
    seconds: float


class EarlyStopping:
    """Measures a student every few steps on the same even sample of each set that has a target.

    Falls are relative to the base on the same samples. The base is measured on construction, so there must be no
    adapter yet. Answers alone end no run, since they are gone long before what they told is: where these targets hold,
    the audits of the level `quick` must pass, too. A run without audits has only these targets.
    """

    def __init__(
        self,
        base: BaseModel,
        scorer: Scorer,
        sets: Sequence[PairSet],
        targets: Targets,
        config: UnlearnConfig,
        audited: AuditSets,
    ) -> None:
        """sets: by role; those of the forget set and of each set with a target are used."""
        self._base, self._scorer, self._targets = base, scorer, targets
        by_role = {items.name: items for items in sets}
        self._sets = [by_role[name] for name in ("forget", *targets.max_falls)]
        self._config = config.evaluation.model_copy(update={"max_pairs": targets.pairs})
        quick = config.model_copy(update={"evaluation": self._config}).with_audits("quick")
        asked = config.evaluation.audits != "none"
        self._auditor = Auditor(audited, self._sets[:1], quick) if asked else None
        self._before = distributed.broadcast(self._rouge_l())
        self.checks: list[TargetCheck] = []

    @property
    def held(self) -> bool:
        """Whether the targets held at the last check."""
        return bool(self.checks) and self.checks[-1].held

    def check(self, step: int) -> None:
        """Measures the student if a check is due after this step."""
        if step % self._targets.every_steps:
            return
        start = time.monotonic()
        found = distributed.broadcast(self._rouge_l())  # all processes ask the audits, or none
        held = self._answers_hold(found) and self._passes_quick_audits()
        self.checks.append(TargetCheck(step, found, held, round(time.monotonic() - start, 3)))
        log.info("step %d: targets %s", step, "hold" if held else "don't hold yet")

    def as_rows(self) -> list[dict[str, Any]]:
        """The checks so far in JSON types."""
        return [asdict(check) for check in self.checks]

    def restore(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Takes over the checks of an interrupted run."""
        self.checks = [TargetCheck(**row) for row in rows]

    def _answers_hold(self, found: Mapping[str, float]) -> bool:
        retained = all(self._before[name] - found[name] <= fall for name, fall in self._targets.max_falls.items())
        return retained and found["forget"] <= self._targets.forget_rouge_l

    def _passes_quick_audits(self) -> bool:
        if self._auditor is None:
            return True
        with self._evaluating():
            evidence = self._auditor.evidence(self._auditor.after(self._base, self._scorer, Measured()))
        return evidence is not None and not evidence.verdict.missed

    def _rouge_l(self) -> dict[str, float]:
        with self._evaluating():
            metrics = evaluate(self._base, self._scorer, list(self._sets), self._config)
        return {metric.split: metric.value for metric in metrics if metric.name == "rouge_l"}

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """The model is in evaluation mode within the context."""
        training = self._base.model.training
        self._base.model.eval()
        try:
            yield
        finally:
            self._base.model.train(training)
