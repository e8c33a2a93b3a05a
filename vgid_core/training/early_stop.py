"""The end of a run before its last step: small measurements on the way, until the targets hold."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vgid_core.config import EvaluationConfig, Targets
from vgid_core.data.pairs import PairSet
from vgid_core.evaluation.evaluate import evaluate
from vgid_core.models import distributed
from vgid_core.models.base import BaseModel
from vgid_core.scoring.scorer import Scorer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Check:
    """One measurement after `step` steps: ROUGE-L by set, whether all targets held, and what it cost."""

    step: int
    rouge_l: Mapping[str, float]
    held: bool
    seconds: float


class Watch:
    """Measures a student every few steps on the same even sample of each set that has a target.

    Falls are counted from what the base says to that sample, measured when this is made: before there is an adapter.
    """

    def __init__(
        self, base: BaseModel, scorer: Scorer, sets: Sequence[PairSet], targets: Targets, config: EvaluationConfig
    ) -> None:
        """`sets` are picked by their roles: forget, and those that the targets name."""
        self._base, self._scorer, self._targets = base, scorer, targets
        by_role = {items.name: items for items in sets}
        self._sets = [by_role[name] for name in ("forget", *targets.most_lost)]
        self._config = config.model_copy(update={"max_pairs": targets.pairs})
        self._before = self._rouge_l()
        self.checks: list[Check] = []

    @property
    def held(self) -> bool:
        """Whether the targets held when last looked at."""
        return bool(self.checks) and self.checks[-1].held

    def after(self, step: int) -> None:
        """Looks at the student, if this is a step to do so."""
        if step % self._targets.every_steps:
            return
        start = time.monotonic()
        found = self._rouge_l()
        held = distributed.broadcast(self._hold(found))
        self.checks.append(Check(step, found, held, round(time.monotonic() - start, 3)))
        log.info("step %d: targets %s", step, "hold" if held else "don't hold yet")

    def as_rows(self) -> list[dict[str, Any]]:
        """The checks so far, as JSON takes them."""
        return [asdict(check) for check in self.checks]

    def restore(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Takes over the checks of a run that was interrupted."""
        self.checks = [Check(**row) for row in rows]

    def _hold(self, found: Mapping[str, float]) -> bool:
        kept = all(self._before[name] - found[name] <= most for name, most in self._targets.most_lost.items())
        return kept and found["forget"] <= self._targets.forget_rouge_l

    def _rouge_l(self) -> dict[str, float]:
        training = self._base.model.training
        self._base.model.eval()
        try:
            metrics = evaluate(self._base, self._scorer, list(self._sets), self._config)
        finally:
            self._base.model.train(training)
        return {metric.split: metric.value for metric in metrics if metric.name == "rouge_l"}
