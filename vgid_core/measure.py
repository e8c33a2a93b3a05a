"""An evaluation: the base is measured, then the base with an adapter, and judged as a run's student is. No training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vgid_core.data.file_digest import file_digest
from vgid_core.errors import AdapterForOtherBase, NothingToForget
from vgid_core.evaluation.evidence import Auditor, Evidence, Measured
from vgid_core.evaluation.known import why_not_forget
from vgid_core.evaluation.metric import Metric
from vgid_core.lora.load import ADAPTER_WEIGHTS, is_for_other_base, load_adapter
from vgid_core.models.base import BaseModel
from vgid_core.models.load import HostModel, load_base, require_unchanged
from vgid_core.progress import Phase, ProgressTracker
from vgid_core.run import OnMetrics, OnStep
from vgid_core.scoring.choose import choose_scorer, probe_pairs
from vgid_core.spec import EvaluationSpec, RunSets
from vgid_core.training.memory import within_memory


@dataclass(frozen=True)
class EvaluationResult:
    """The result of an evaluation.

    before: what was found of the base. after: of the model with the adapter; empty where the base doesn't know the
    forget set. reference_model: of the reference model; None without one. measured: what the figures are of:
    `base_digest`, `adapter_sha256` of its weights (None for the base alone), `reference_digest` where there is one,
    `pairs` of each set. set_digests: by set. Whoever has them can test guesses of a set, so they stay with whoever has
    the sets.
    """

    before: Measured = field(repr=False)
    after: Measured = field(repr=False)
    reference_model: Measured | None = field(repr=False)
    evidence: Evidence
    measured: Mapping[str, Any]
    set_digests: Mapping[str, str] = field(repr=False)

    @property
    def metrics_before(self) -> list[Metric]:
        """Both metrics of each set, of the base."""
        return self.before.metrics

    @property
    def metrics_after(self) -> list[Metric]:
        """The same of the model with the adapter; empty where `after` is."""
        return self.after.metrics

    def as_json(self) -> dict[str, Any]:
        """The evidence in JSON types, with what was measured."""
        return {**self.evidence.as_json(), "measured": dict(self.measured)}


def evaluate_adapter(
    spec: EvaluationSpec,
    on_step: OnStep | None = None,
    on_metrics: OnMetrics | None = None,
    base: HostModel | None = None,
) -> EvaluationResult:
    """Measures `spec.adapter` on its base by the audits of the settings' level. Without one, the base alone.

    A reference model, if there is one, is measured last, on the same sets, and figures are judged by its own. The
    arguments are as in `unlearn`. That the base doesn't know the forget set is an outcome, and so is a missed target;
    neither raises. Raises ValueError for settings without audits, UnlearnError (model, memory, an adapter that doesn't
    fit or is for another base) and DataError (an unusable pair).
    """
    if spec.config.evaluation.audits == "none":
        raise ValueError("an evaluation needs a level of audits")
    message = "the accelerator ran out of memory; try a smaller evaluation.batch_size"
    return within_memory(lambda: _evaluate(spec, on_step, on_metrics, base), message)


def _evaluate(
    spec: EvaluationSpec, on_step: OnStep | None, on_metrics: OnMetrics | None, read: HostModel | None
) -> EvaluationResult:
    sets = RunSets.to_measure(spec)
    tracker = ProgressTracker(0, on_step)
    tracker.enter(Phase.loading)
    base = load_base(spec.model, spec.config, read)
    _require_own_base(base, spec)
    base.encoder.require_usable(*sets.all)

    tracker.enter(Phase.baseline)
    auditor = Auditor(sets.audited, sets.all, spec.config, uncounted=sets.uncounted)
    scorer = choose_scorer(base, probe_pairs(sets.all), spec.config.lora)
    before = auditor.before(base, scorer, tracker.update)
    if on_metrics is not None:
        on_metrics("before", before.metrics)
    if isinstance(why_not_forget(before.figures), NothingToForget):
        require_unchanged(base, spec.model)
        return _result(spec, sets, base.digest, before, Measured(), auditor)

    tracker.enter(Phase.evaluating)
    if spec.adapter is not None:
        scorer = choose_scorer(base, probe_pairs(sets.all), load_adapter(base, spec.adapter))
    parts = 1 if spec.reference_model is None else 2
    after = auditor.after(base, scorer, before, lambda share: tracker.update(share / parts))
    if on_metrics is not None:
        on_metrics("after", after.metrics)
    require_unchanged(base, spec.model)
    digest = base.digest
    if spec.reference_model is None:
        return _result(spec, sets, digest, before, after, auditor)
    del base, scorer  # makes room on the device
    reference_model = load_base(spec.reference_model, spec.config)
    scorer = choose_scorer(reference_model, probe_pairs(sets.all), spec.config.lora)
    found = auditor.after(reference_model, scorer, before, lambda share: tracker.update((1 + share) / parts))
    return _result(spec, sets, digest, before, after.beside(found), auditor, (reference_model.digest, found))


def _require_own_base(base: BaseModel, spec: EvaluationSpec) -> None:
    if spec.adapter is not None and is_for_other_base(base, spec.adapter):
        raise AdapterForOtherBase(
            "The adapter was made for another base than the one that is there now: its manifest names another digest."
        )


def _result(
    spec: EvaluationSpec,
    sets: RunSets,
    base_digest: str,
    before: Measured,
    after: Measured,
    auditor: Auditor,
    reference_model: tuple[str, Measured] | None = None,
) -> EvaluationResult:
    evidence = auditor.evidence(after) if after.answers else auditor.evidence_of_unknown(before)
    if evidence is None:
        raise AssertionError("unreachable: the level isn't none")
    measured = {
        "base_digest": base_digest,
        "adapter_sha256": None if spec.adapter is None else file_digest(spec.adapter / ADAPTER_WEIGHTS),
        "pairs": {items.name: len(items) for items in sets.all},
    }
    if reference_model is not None:
        measured["reference_digest"] = reference_model[0]
    return EvaluationResult(before, after, reference_model and reference_model[1], evidence, measured, sets.digests)
