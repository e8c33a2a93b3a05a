"""The report: a page that needs nothing else, says the verdict first, and tells nothing that is covered."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from tests.evidence import MANIFEST as _MANIFEST
from vgid_core.config import VerdictTargets
from vgid_core.evaluation.estimates import Estimate
from vgid_core.evaluation.evidence import LIMITS, Evidence
from vgid_core.evaluation.figures import Control, Figure
from vgid_core.evaluation.verdict import judge
from vgid_core.report.examples import Example
from vgid_core.report.page import Report

NAMES = (
    "generated.rouge_l", "generated.probability", "misattributed", "extraction_strength", "prefill.up_to_fact",
    "prefill.into_fact",
    "ranking.first_token.first", "ranking.first_token.below", "membership.loss", "relearning.in_domain_20",
    "in_context", "prompts.text_only", "sampling", "served_precision.4_bit", "everyone_else.drop",
)  # fmt: skip
MANIFEST = {**_MANIFEST, "base_model": {"name": "<b>demo</b>", "digest": "ab" * 32}, "not_shown": list(LIMITS)}


def evidence(**values: float) -> dict[str, Any]:
    """Every kind of figure at its control, but for those that are given."""
    figures = []
    for name in NAMES:
        chance = 0.5 if name.startswith("membership") or name.endswith("below") else 0.02
        value = values.get(name.replace(".", "_"), chance)
        of = "retain" if name.startswith("everyone") else "forget"
        figures.append(Figure(name, of, Estimate(value, value, value, 6, 60), Control("control", chance, 0, 1), 1.0))
    return Evidence("standard", 0, figures, judge(figures, VerdictTargets())).as_json()


class Elements(HTMLParser):
    """Every start tag with its attributes, and every open element left."""

    VOID = ("meta", "br")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_stands_alone() -> None:
    page = Report(evidence(), MANIFEST, {"job": "1"}).html()
    elements = Elements(page)
    assert elements.open == []
    assert {tag for tag, _ in elements.found}.isdisjoint({"script", "img", "link", "iframe", "object"})
    for _, attributes in elements.found:
        assert {"src", "href", "onclick", "onload"}.isdisjoint(attributes)
    assert "url(" not in page
    assert "@import" not in page
    assert "<b>demo</b>" not in page, "what others wrote is text"


@pytest.mark.parametrize(
    ("document", "heading"),
    [(evidence(), "Passed"), (evidence(prefill_up_to_fact=0.6), "Not passed"), (None, "Not judged")],
)
def test_the_verdict_comes_first(document: dict[str, Any] | None, heading: str) -> None:
    page = Report(document, MANIFEST).html()
    body = re.sub(r"<[^>]*>", " ", page.partition("<body>")[2]).split()
    assert " ".join(body).startswith(f"Evidence of forgetting {heading}")


def test_a_missed_target_is_said_in_words_and_every_figure_is_drawn() -> None:
    document = evidence(prefill_up_to_fact=0.6)
    page = Report(document, MANIFEST).html()
    assert "A prefilled answer brings no fact back: missed. Whoever begins an answer gets the fact." in page
    circles = [
        each for tag, each in Elements(page).found if tag == "circle" and each.get("class") in ("held", "missed")
    ]
    assert len(circles) == len(NAMES) - 1  # all but the candidates below, which a target names
    assert [each["class"] for each in circles].count("missed") == 1
    for claim in (*document["verdict"]["unmeasured"], *LIMITS):
        assert claim.replace("'", "&#39;") in page


def test_charts_can_be_read_aloud() -> None:
    page = Report(evidence(generated_rouge_l=0.25), MANIFEST).html()
    assert len(re.findall(r'<svg role="img"', page)) == len(re.findall(r"<title>[^<]+</title><desc>[^<]+</desc>", page))
    assert "answers: the request itself: 0.25, 95 % between 0.25 and 0.25, before 1.00, control 0.02" in page


def test_no_word_of_the_request_is_left_in_a_covered_example() -> None:
    secrets = ["This is Ada Quill.", "Ada Quill", "In Bramcliff.", "Bramcliff"]
    asked = "This is Ada Quill. Where was Ada born?"
    own = Example(asked, "In Bramcliff.", "ada QUILL was born in Bramcliffe!", "I can't say; Quill, perhaps.")
    page = Report(evidence(), MANIFEST, examples=[own.covered(secrets)]).html()
    assert not re.search("quill|ada |bramcliff", page.casefold())
    assert "███ ███ ███ ███. Where was ███ born?" in page
    assert "I can&#39;t say; ███, perhaps." in page
    assert "Quill" not in repr(own)
    shown = Report(evidence(), MANIFEST, examples=[own], covered=False).html()
    assert "This is Ada Quill." in shown


def test_what_a_verdict_lacks_is_said_beside_it() -> None:
    document = evidence()
    document["verdict"] |= {"outcome": "targets-not-met", "passed": False, "lacking": ["everyone_else.drop: unknown"]}
    page = Report(document, MANIFEST).html()
    assert "No verdict can pass without it: everyone_else.drop: unknown." in page
    verdict = page.partition("</section>")[0]
    assert f"{len(document['verdict']['unmeasured'])} claims weren't measured" in verdict


def test_every_figure_stands_with_how_many_were_asked() -> None:
    page = Report(evidence(), MANIFEST).html()
    rows = re.findall(r"<tr><td><code>([^<]+)</code>.*?</tr>", page)
    assert rows == list(NAMES)
    assert page.count('<td class="number">6</td><td class="number">60</td>') == len(NAMES)
    assert "built-in" not in page
