"""An evaluation as JSON, as tables, and as a page."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from terminal.tables import figures_table, format_figure
from vgid_core.artifact import versions
from vgid_core.cli.reports.tables import metrics_table
from vgid_core.cli.reports.verdict_report import print_verdict
from vgid_core.data.sampling import even_sample
from vgid_core.evaluation.metric import Metric
from vgid_core.measure import EvaluationResult
from vgid_core.report.examples import Example
from vgid_core.report.page import Report
from vgid_core.spec import EvaluationSpec

_EXAMPLES = 6


def as_document(found: EvaluationResult) -> dict[str, Any]:
    """The evaluation in JSON types. It holds digests of the sets, so it isn't for those who mustn't guess at them."""
    metrics = {stage: [asdict(metric) for metric in rows] for stage, rows in _stages(found).items()}
    return {**found.as_json(), "metrics": metrics, "set_digests": dict(found.set_digests)}


def print_evaluation(console: Console, found: EvaluationResult) -> None:
    """Prints metrics, every figure beside the base's, the reference model's and its control, and the verdict."""
    console.print(metrics_table(_stages(found)))
    if found.after.figures:
        console.print(_figures(found))
    print_verdict(console, found.evidence.as_json())


def page(spec: EvaluationSpec, model_name: str, found: EvaluationResult, show_texts: bool) -> str:
    """The evaluation as HTML. show_texts: whether the true answers' words are left uncovered."""
    secrets = [text for pair in spec.forget for text in (pair.answer, pair.person, pair.fact) if text is not None]
    examples = [each if show_texts else each.covered(secrets) for each in _examples(found)]
    evidence = found.as_json()
    manifest = {
        "method": "measured only; nothing was trained",
        "base_model": {"name": model_name, "digest": found.measured["base_digest"]},
        "seed": spec.config.seed,
        "data": {name: {"pairs": count} for name, count in found.measured["pairs"].items()},
        "versions": versions(),
        "config": spec.config.model_dump(mode="json"),
        "not_shown": evidence["limits"],
    }
    about = {"adapter": found.measured["adapter_sha256"] or "none: the base alone was measured"}
    return Report(evidence, manifest, about, examples, covered=not show_texts).html()


def _stages(found: EvaluationResult) -> dict[str, list[Metric]]:
    """The metrics of each model that was measured, by its title."""
    stages = {"base": found.before.metrics}
    if found.after.answers and found.measured["adapter_sha256"] is not None:
        stages["adapter"] = found.after.metrics
    if found.reference_model is not None:
        stages["reference_model"] = found.reference_model.metrics
    return stages


def _figures(found: EvaluationResult) -> Table:
    titles = ["before", "value", "control"] + ([] if found.reference_model is None else ["reference_model"])
    table = figures_table("figure", numbers=titles)
    for each in found.after.figures:
        control = None if each.control is None else each.control.value
        numbers = [each.before, each.value, control] + ([] if found.reference_model is None else [each.reference_model])
        name = each.name if each.of == "forget" else f"{each.name} ({each.of})"
        table.add_row(name, *map(format_figure, numbers))
    return table


def _examples(found: EvaluationResult) -> list[Example]:
    """Some of the forgotten pairs, with what was said of them before and after."""
    before = next(answers for answers in found.before.answers if answers.pairs.name == "forget")
    after = next((answers for answers in found.after.answers if answers.pairs.name == "forget"), before)
    rows = list(zip(before.pairs, before.texts, after.texts, strict=True))
    drawn = even_sample(rows, _EXAMPLES)
    return [Example(pair.question, pair.answer, earlier, later) for pair, earlier, later in drawn]
