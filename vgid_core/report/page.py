"""Renders the page from an evidence document and a manifest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from vgid_core.report.charts import Row, chart
from vgid_core.report.claims import claim_of, set_in_words
from vgid_core.report.examples import Example

_PLACES = {
    "first": "the likeliest",
    "first_five": "among the first five",
    "last": "the least likely",
    "last_five": "among the last five",
}
_VERDICTS = {
    "forgotten": (
        "Passed",
        "In everything that was measured, the model behaves as if it had never known these people.",
    ),
    "targets-not-met": (
        "Not passed",
        "At least one measurement shows that something of these people is left, or that too much of others is lost. "
        "This adapter must not be served as if the people were forgotten.",
    ),
    "nothing-to-forget": (
        "Nothing to forget",
        "The model doesn't know these answers: it gives them no sooner than those about people whom it has never seen.",
    ),
}


@dataclass(frozen=True)
class _Group:
    """Figures that stand in one chart: those whose names begin so, and don't end so."""

    title: str
    explanation: str
    beginnings: tuple[str, ...]
    but: str = "none"

    def holds(self, figure: str) -> bool:
        return figure.startswith(self.beginnings) and not figure.endswith(self.but)


_GROUPS = (
    _Group(
        "The forgotten, before and after",
        "The lower the better. The bar is the control: people whom the model has never seen.",
        ("generated", "misattributed", "extraction", "prefill", "each_person"),
    ),
    _Group(
        "What brings facts back",
        "The share of facts that each attack gets. The bar is what it gets of unseen people.",
        ("relearning", "in_context", "prompts", "sampling", "served_precision"),
    ),
    _Group(
        "Where the true name stands among candidates",
        "The share of questions with the true name at this place. The bar is what chance gives.",
        ("ranking",),
        but="below",
    ),
    _Group(
        "Can it be told who was in the training data?",
        "How well each score separates the forgotten from unseen people. The bar is a coin's 0.5; both sides tell.",
        ("membership",),
    ),
    _Group("What others lose", "The drop of their answers. Nothing lost is 0.", ("everyone_else",)),
)
_NOT_JUDGED = ("Not judged", "No audits were run, so nothing shows whether anybody is forgotten.")


@dataclass(frozen=True)
class Report:
    """What a page is made of.

    about: lines of name and value, such as the job's id. examples: shown as they are, so cover them first.
    """

    evidence: Mapping[str, Any] | None
    manifest: Mapping[str, Any]
    about: Mapping[str, str] = field(default_factory=dict)
    examples: Sequence[Example] = ()
    covered: bool = True

    def html(self) -> str:
        """The page, with its style in it and no script."""
        verdict = None if self.evidence is None else self.evidence["verdict"]
        heading, sentence = _NOT_JUDGED if verdict is None else _VERDICTS[verdict["outcome"]]
        figures = [] if self.evidence is None else self.evidence["figures"]
        page: str = _template().render(
            heading=heading,
            sentence=sentence,
            passed=verdict is not None and verdict["passed"],
            about=self.about,
            targets=[] if verdict is None else _targets(verdict["targets"]),
            lacking=[] if verdict is None else verdict.get("lacking", []),
            unmeasured=[] if verdict is None else verdict["unmeasured"],
            limits=self.manifest["not_shown"],
            charts=[] if self.evidence is None else list(_charts(self.evidence)),
            figures=figures,
            reference_model=any(figure.get("reference_model") is not None for figure in figures),
            examples=self.examples,
            covered=self.covered,
            manifest=self.manifest,
            level=None if self.evidence is None else self.evidence["level"],
        )
        return page


def _targets(targets: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each target with its claim in words. What was done is said once, where several rows do the same."""
    found, before = [], None
    for target in targets:
        claim = claim_of(target["figure"])
        how = "" if claim == before else claim.how
        found.append({**target, "title": claim.title, "how": how, "about": set_in_words(target["set"])})
        before = claim
    return found


def _charts(evidence: Mapping[str, Any]) -> Iterator[tuple[str, str, Markup]]:
    """Title, explanation and picture of each chart that has figures."""
    missed = {(each["figure"], each["set"]) for each in evidence["verdict"]["targets"] if not each["held"]}
    for group in _GROUPS:
        rows = [_row(each, missed) for each in evidence["figures"] if group.holds(each["figure"])]
        if rows:
            yield group.title, group.explanation, chart(group.title, rows)


def _row(figure: Mapping[str, Any], missed: set[tuple[str, str]]) -> Row:
    control = figure["control"]
    return Row(
        label=_label(figure),
        value=figure["value"],
        low=figure["low"],
        high=figure["high"],
        before=figure["before"],
        control=None if control is None else control["value"],
        missed=(figure["figure"], figure["set"]) in missed,
    )


def _label(figure: Mapping[str, Any]) -> str:
    about = set_in_words(figure["set"])
    audit, _, rest = str(figure["figure"]).partition(".")
    if audit == "ranking":
        by, _, place = rest.partition(".")
        return f"{_PLACES[place]}, by {by.replace('_', ' ')}"
    if audit == "everyone_else":
        return about
    if audit == "generated":
        return f"{'answers' if rest == 'rouge_l' else 'likelihood'}: {about}"
    if audit == "misattributed":
        return f"others' names: {about}"
    if audit == "prefill":
        return f"prefilled {rest.replace('_', ' ')}"
    return (rest or audit).replace("_", " ")


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("vgid_core.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["number"] = "{:.3f}".format
    template: Template = environment.get_template("page.html.j2")
    return template
