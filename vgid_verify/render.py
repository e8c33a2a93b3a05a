"""Reports as text: the verdict first, then figures, what was checked, and what the statement doesn't show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from vgid_verify.names import BASE_DIGEST
from vgid_verify.receipt import ReceiptReport
from vgid_verify.report import Check, Report
from vgid_verify.rerun import Rerun
from vgid_verify.serving import ServingCheck, ServingReport
from vgid_verify.text import moment, printable

_DOES_NOT_HOLD = "DOES NOT HOLD: believe nothing of it"
_ARRIVES = {
    "arrives": "PASSED: the forgetting arrives",
    "does-not-arrive": "NOT PASSED: the forgetting does not arrive",
    "inconclusive": "NOT PASSED: nobody can tell whether the forgetting arrives",
}
_NO_VERDICT = "the run reached no verdict: nobody held its figures to targets"

_RELEASE_PASSED = "PASSED: a release, and every request that it holds met its targets in the run that forgot it"
_NO_RELEASE_VERDICT = "a release that doesn't say that every request which it holds met its targets"


def report_text(report: Report, proofs: Sequence[Check], found: Rerun | None = None) -> str:
    """The whole report of a folder. found: what was measured again, if anything was."""
    lines = [_verdict(report), ""]
    if report.holds:
        lines += _section("Release", _release(report))
        lines += _section("Targets", _targets(report))
        lines += _section("Figures", _figures(report))
        lines += _section("Before and after", _measured(report))
    lines += _section("Checked", map(_line, (*report.checks, *proofs)))
    if found is not None:
        lines += _section(_measured_again(found), map(_line, found.checks))
        lines += _section("Not compared", found.not_compared)
    if report.holds:
        lines += _section("Limits, as the statement says them", report.limits)
        lines += _section("What the statement does NOT show", report.not_shown)
    return _joined(lines)


def receipt_text(report: ReceiptReport) -> str:
    """The whole report of a receipt."""
    if not report.holds:
        return _joined([_DOES_NOT_HOLD, "", *map(_line, report.checks)])
    lines = [f"HOLDS: job {report.job} ended as {report.state}", ""]
    lines += _section("Deleted", (f"{item['at']}  {item['what']}: {item['how']}" for item in report.deleted))
    lines += _section("Still there", report.remains)
    lines += _section("Checked", map(_line, report.checks))
    lines += _section("What the receipt does NOT show", report.not_shown)
    return _joined(lines)


def serving_text(report: ServingReport, proofs: Sequence[Check]) -> str:
    """The whole report of a server's check."""
    if not report.holds or report.check is None:
        return _joined([_DOES_NOT_HOLD, "", *map(_line, report.checks)])
    alone = "" if report.check.control is not None else ", and nobody asked whether anything else still does"
    lines = [_ARRIVES[report.check.verdict] + alone, ""]
    lines += _section("Asked", _asked(report.check))
    lines += _section("Found", (f"{one.level:<9}{one.kind}: {one.message}" for one in report.check.findings))
    lines += _section("Figures", _answers(report.check))
    lines += _section("Checked", map(_line, (*report.checks, *proofs)))
    lines += _section("What the statement does NOT show", report.not_shown)
    return _joined(lines)


def _asked(check: ServingCheck) -> Iterator[str]:
    digest = check.adapter.sha256
    yield f"endpoint  {check.endpoint}"
    yield f"adapter   {check.adapter.name}{'' if digest is None else f', weights with sha256 {digest}'}"
    yield f"base      {check.base or 'none was known'}"
    yield f"about     {check.pairs.pairs} forgotten pairs, {check.control.pairs if check.control else 'no'} others"
    yield f"at        {moment(check.checked_at)}"


def _answers(check: ServingCheck) -> Iterator[str]:
    for way, answers in check.figures.items():
        score = "" if answers.rouge_l is None else f", ROUGE-L {answers.rouge_l:.3f}"
        yield f"{way}: {answers.told} of {answers.answered} facts are told, {answers.asked} asked{score}"


def _verdict(report: Report) -> str:
    if not report.holds:
        return _DOES_NOT_HOLD
    if report.release is not None:
        return _RELEASE_PASSED if report.passed else f"NOT PASSED: {_NO_RELEASE_VERDICT}"
    if report.evidence is None:
        return f"NOT PASSED: {_NO_VERDICT}"
    said = "PASSED" if report.passed else "NOT PASSED"
    return f"{said}: {report.outcome}, at level {report.evidence.get('level')}"


def _release(report: Report) -> Iterator[str]:
    if report.release is not None:
        base = report.release["base"]
        yield f"adapter   weights with sha256 {report.release['adapter']['sha256']}"
        yield f"base      {base['name']}, digest {base['digest'][BASE_DIGEST]}"


def _targets(report: Report) -> Iterator[str]:
    verdict = (report.evidence or {}).get("verdict", {})
    for target in verdict.get("targets", ()):
        held = "held  " if target["held"] else "MISSED"
        of = f" on {target['set']}" if target.get("set") else ""
        judged = "" if target["judged"] == "value" else f", {target['amount']:.3g} {target['judged']}"
        meaning = "" if target["held"] else f": {target['meaning']}"
        yield f"{held} {target['figure']}{of}: {_interval(target)}{judged}, limit {target['limit']:.3g}{meaning}"
    for reason in verdict.get("lacking", ()):
        yield f"LACKING {reason}"
    for name in verdict.get("unmeasured", ()):
        yield f"NOT MEASURED {name}"


def _measured_again(found: Rerun) -> str:
    if not found.checks:
        return "Measured again: nothing could be compared"
    if found.outcome is None:
        return "Measured again (not judged: some of the run's sets aren't here)"
    return f"Measured again: {found.outcome}"


def _figures(report: Report) -> Iterator[str]:
    for row in (report.evidence or {}).get("figures", ()):
        before = "" if row.get("before") is None else f", before {row['before']:.3g}"
        control = row.get("control")
        beside = "" if control is None else f", {control['of']} {_interval(control)}"
        size = f"{row['people']} people, {row['items']} items"
        yield f"{row['figure']} on {row['set']}: {_interval(row)}{before}{beside} ({size})"


def _measured(report: Report) -> Iterator[str]:
    before = {(row["split"], row["name"]): row for row in report.measured.get("before", ())}
    for row in report.measured.get("after", ()):
        earlier = before.get((row["split"], row["name"]))
        start = "" if earlier is None else f"{earlier['value']:.3f} before, "
        yield f"{row['name']} on {row['split']}: {start}{row['value']:.3f} after ({row['pairs']} pairs)"


def _interval(row: dict[str, Any]) -> str:
    return f"{row['value']:.3g} [{row['low']:.3g}, {row['high']:.3g}]"


def _line(check: Check) -> str:
    return ("ok     " if check.held else "WRONG  ") + ": ".join(filter(None, (check.name, check.detail)))


def _section(title: str, rows: Iterable[str]) -> list[str]:
    lines = [f"  {row}" for row in rows]
    return [title, *lines, ""] if lines else []


def _joined(lines: Iterable[str]) -> str:
    """The lines as a text. No control character of a file's name, or of a statement, reaches the terminal."""
    return "\n".join(map(printable, lines)).rstrip()
