"""Evidence: everything that was measured of one model, before and after, and the verdict on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from vgid_core.config import AuditLevel, UnlearnConfig
from vgid_core.data.pairs import PairSet
from vgid_core.data.roles import AuditSets
from vgid_core.evaluation.audits.context import AuditContext
from vgid_core.evaluation.audits.levels import LEVELS, Audit
from vgid_core.evaluation.evaluate import SetAnswers, answer_sets
from vgid_core.evaluation.figures import Figure
from vgid_core.evaluation.metric import Metric
from vgid_core.evaluation.verdict import Verdict, judge
from vgid_core.models.base import BaseModel
from vgid_core.scoring.scorer import Scorer

EVIDENCE_FORMAT = "vgid-evidence/1"
LIMITS = (
    "Measured behaviour is evidence, not proof: weights can't show that nothing is left (arXiv 2110.11891).",
    "Only the questions and photos of the request, and of the registered sets, were asked.",
    "Who has the weights can look further than a verdict does: at middle layers a candidate ranking can still name "
    "the forgotten (figure ranking.lens).",
    "The figures hold for the base with this digest and this adapter, not for what is trained on top of them.",
)


@dataclass(frozen=True)
class Measured:
    """What was found of one model: its answers to each set, and its audits' figures."""

    answers: Sequence[SetAnswers] = ()
    figures: Sequence[Figure] = ()

    @property
    def metrics(self) -> list[Metric]:
        """Both metrics of each set."""
        return [metric for answers in self.answers for metric in answers.metrics]


@dataclass(frozen=True)
class Evidence:
    """The figures of a model after forgetting, and the verdict on them."""

    level: AuditLevel
    seed: int
    figures: Sequence[Figure]
    verdict: Verdict

    def as_json(self) -> dict[str, Any]:
        """The evidence in JSON types. It holds no text, no photo and no name of anybody."""
        return {
            "format": EVIDENCE_FORMAT,
            "level": self.level,
            "seed": self.seed,
            "figures": [figure.as_json() for figure in self.figures],
            "verdict": self.verdict.as_json(),
            "limits": list(LIMITS),
        }


@dataclass(frozen=True)
class Auditor:
    """Measures models on the same sets in the same way.

    measured: sets whose answers are measured, those of `sets` among them.
    """

    sets: AuditSets = field(repr=False)
    measured: Sequence[PairSet] = field(repr=False)
    config: UnlearnConfig

    def before(self, base: BaseModel, scorer: Scorer, on_progress: Callable[[float], None] | None = None) -> Measured:
        """Measures the base, which has no adapter yet. on_progress: called with the share done, 0 to 1."""
        return self._measure(base, scorer, LEVELS[self._level].before, Measured(), on_progress)

    def after(
        self,
        base: BaseModel,
        scorer: Scorer,
        before: Measured,
        on_progress: Callable[[float], None] | None = None,
    ) -> Measured:
        """Measures the model with its adapter. before: what `before` found."""
        return self._measure(base, scorer, LEVELS[self._level].after, before, on_progress)

    def evidence(self, after: Measured) -> Evidence | None:
        """The evidence, judged by the run's targets. None if the settings ask for no audits."""
        if self._level == "none":
            return None
        verdict = judge(after.figures, self.config.verdict, self._level)
        return Evidence(self._level, self.config.seed, after.figures, verdict)

    @property
    def _level(self) -> AuditLevel:
        return self.config.evaluation.audits

    def _measure(
        self,
        base: BaseModel,
        scorer: Scorer,
        audits: Sequence[Audit],
        before: Measured,
        on_progress: Callable[[float], None] | None,
    ) -> Measured:
        def tell(share: float) -> None:
            if on_progress is not None:
                on_progress(share)

        part = 1 / (1 + len(audits))
        answers = answer_sets(base, scorer, self.measured, self.config.evaluation, lambda share: tell(share * part))
        context = AuditContext(
            base,
            scorer,
            self.sets,
            LEVELS[self._level].sizes,
            self.config.seed,
            after={each.pairs.name: each for each in answers},
            before={each.pairs.name: each for each in before.answers},
            found_before={figure.name: figure.value for figure in before.figures},
        )
        figures: list[Figure] = []
        for number, audit in enumerate(audits, 2):
            figures += audit(context)
            tell(number * part)
        return Measured(answers, figures)
