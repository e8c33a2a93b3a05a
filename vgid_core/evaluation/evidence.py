"""Evidence: everything that was measured of one model, before and after, and the verdict on it."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from vgid_core.config import AuditLevel, UnlearnConfig
from vgid_core.data.pairs import DataError, PairSet
from vgid_core.data.roles import AuditSets
from vgid_core.data.subjects import Subjects
from vgid_core.evaluation.audit_context import AuditContext
from vgid_core.evaluation.evaluate import SetAnswers, answer_sets
from vgid_core.evaluation.figures import Figure, NotMeasured
from vgid_core.evaluation.levels import LEVELS, Audit, name_of
from vgid_core.evaluation.metric import Metric
from vgid_core.evaluation.rechecks import Rechecks, ReplaySets
from vgid_core.evaluation.verdict import Verdict, judge, judge_unknown
from vgid_core.models import distributed
from vgid_core.models.base import BaseModel
from vgid_core.scoring.scorer import Scorer

log = logging.getLogger(__name__)

EVIDENCE_FORMAT = "vgid-evidence/1"
LIMITS = (
    "Measured behaviour is evidence, not proof: weights can't show that nothing is left (arXiv 2110.11891).",
    "Only the questions and photos of the request, and of the registered sets, were asked.",
    "Who has the weights can look further than a verdict does: at middle layers a candidate ranking can still name "
    "the forgotten (figure ranking.lens).",
    "The figures hold for the base with this digest and this adapter, not for what is trained on top of them.",
)

_NOT_HELD = "people forgotten before: the model knows some of them again"


@dataclass(frozen=True)
class Measured:
    """What was found of one model: its answers to each set, and its audits' figures.

    not_made: why audits weren't made, by audit. rechecks: what was found of the replay sets, whose figures are among
    these.
    """

    answers: Sequence[SetAnswers] = ()
    figures: Sequence[Figure] = ()
    not_made: Mapping[str, str] = field(default_factory=dict)
    rechecks: Rechecks = field(default_factory=lambda: Rechecks({}))

    @property
    def metrics(self) -> list[Metric]:
        """Both metrics of each set."""
        return [metric for answers in self.answers for metric in answers.metrics]

    def beside(self, reference_model: Measured) -> Measured:
        """The same with each figure that was found of a reference model, too, beside the reference model's."""
        found = {(figure.name, figure.of): figure.value for figure in reference_model.figures}
        figures = [replace(figure, reference_model=found.get((figure.name, figure.of))) for figure in self.figures]
        return replace(self, figures=figures)


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

    measured: sets whose answers are measured, those of `sets` among them. replay_sets: those of the run, as the request
    sees them. uncounted: by set, people of whom nothing counts as lost there, since they are forgotten.
    """

    sets: AuditSets = field(repr=False)
    measured: Sequence[PairSet] = field(repr=False)
    config: UnlearnConfig
    replay_sets: ReplaySets = field(default_factory=ReplaySets, repr=False)
    uncounted: Mapping[str, Subjects] = field(default_factory=dict, repr=False)

    def before(
        self,
        base: BaseModel,
        scorer: Scorer,
        on_progress: Callable[[float], None] | None = None,
        shared: Measured | None = None,
    ) -> Measured:
        """Measures the base, which has no adapter yet.

        on_progress: called with the share done, 0 to 1. shared: what was found of the same model for another request of
        the run. Answers to sets that both have are taken from it.
        """
        return self._measure(base, scorer, LEVELS[self._level].before, Measured(), on_progress, shared=shared)

    def after(
        self,
        base: BaseModel,
        scorer: Scorer,
        before: Measured,
        on_progress: Callable[[float], None] | None = None,
        shared: Measured | None = None,
    ) -> Measured:
        """Measures the model with its adapter, and checks the replay sets again.

        before: what `before` found. shared: as there; what it found of each replay set is taken from it, too.
        """
        return self._measure(base, scorer, LEVELS[self._level].after, before, on_progress, self.replay_sets, shared)

    def evidence(self, after: Measured) -> Evidence | None:
        """The evidence, judged by the run's targets. None if the settings ask for no audits."""
        if self._level == "none":
            return None
        lacking = [_NOT_HELD] if self.replay_sets.known_again(after.rechecks) else []
        verdict = judge(after.figures, self.config.verdict, self._level, after.not_made, lacking)
        return Evidence(self._level, self.config.seed, after.figures, verdict)

    def evidence_of_unknown(self, before: Measured) -> Evidence:
        """The evidence of a base that doesn't know the forget set. before: what `before` found."""
        return Evidence(self._level, self.config.seed, before.figures, judge_unknown())

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
        replay_sets: ReplaySets | None = None,
        shared: Measured | None = None,
    ) -> Measured:
        def tell(share: float) -> None:
            if on_progress is not None:
                on_progress(share)

        part = 1 / (1 + len(audits))
        answers = self._answers(base, scorer, shared, lambda share: tell(share * part))
        was = {each.pairs.name: each for each in before.answers}
        answers = [
            each.without(self.uncounted[each.pairs.name], was[each.pairs.name])
            if each.pairs.name in self.uncounted.keys() & was.keys()
            else each
            for each in answers
        ]
        context = AuditContext(
            base,
            scorer,
            self.sets,
            LEVELS[self._level].sizes,
            self.config.seed,
            after={each.pairs.name: each for each in answers},
            before=was,
            found_before={(figure.name, figure.of): figure.value for figure in before.figures},
        )
        figures: list[Figure] = []
        not_made: dict[str, str] = {}
        for number, audit in enumerate(audits, 2):
            reason = _make(audit, context, figures)
            if reason is not None:
                not_made[name_of(audit)] = reason
            tell(number * part)
        rechecks = Rechecks({})
        if replay_sets is not None and audits:
            rechecks = replay_sets.recheck(context, self.config, None if shared is None else shared.rechecks)
        figures += rechecks.figures
        not_made |= rechecks.not_made
        # Processes that differ in a last bit could decide differently, and then wait for each other.
        return Measured(answers, *distributed.broadcast((figures, not_made, rechecks)))

    def _answers(
        self, base: BaseModel, scorer: Scorer, shared: Measured | None, tell: Callable[[float], None]
    ) -> list[SetAnswers]:
        """The answers to each set, without asking again what was asked for another request."""
        config = self.config.evaluation
        ready = {each.pairs.name: each for each in (() if shared is None else shared.answers)}
        asked = [
            items
            for items in self.measured
            if items.name not in ready or ready[items.name].pairs != items.sample(config.max_pairs)
        ]
        found = ready | {each.pairs.name: each for each in answer_sets(base, scorer, asked, config, tell)}
        return [found[items.name] for items in self.measured]


def _make(audit: Audit, context: AuditContext, figures: list[Figure]) -> str | None:
    """Adds the audit's figures. Returns why it couldn't go on, if so: a trained adapter isn't lost for that."""
    try:
        for figure in audit(context):
            figures.append(figure)
        return None
    except NotMeasured as error:
        reason = str(error)
    except DataError as error:
        reason = f"a text that it makes {error.reason}"
    except torch.OutOfMemoryError:
        if distributed.world_size() > 1:  # the others may be waiting inside a pass
            raise
        reason = "the device has too little memory for it"
    gc.collect()  # a model's copy is full of reference cycles
    log.warning("%s isn't measured: %s", name_of(audit), reason)
    return reason
