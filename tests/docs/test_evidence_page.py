"""What pages say of audits, targets, outcomes and failures stands in the code."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

import vgid_core.errors
from jobs import transitions
from jobs.tables import Job
from tests.docs.pages import ROOT, text_of
from vgid_core.config import AuditLevel, EvaluationConfig, UnlearnConfig, VerdictTargets
from vgid_core.config.ladder import rungs
from vgid_core.data.overlap import MOST
from vgid_core.errors import RequestsRefused, RunStopped, UnlearnError
from vgid_core.evaluation.levels import LEVELS
from vgid_core.evaluation.verdict import RULES, Outcome

PAGE = "docs/concepts/evidence.md"
ASKED: list[AuditLevel] = ["quick", "standard", "full"]


def section(title: str, page: str = PAGE) -> str:
    found = text_of(page).partition(f"## {title}\n")[2]
    assert found, title
    return re.split(r"^## ", found, flags=re.MULTILINE)[0]


def cells(text: str) -> list[list[str]]:
    """The rows of the tables in a text, without their heads."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return [row for row in rows if row[0].startswith("`")]


def figures_of(level: AuditLevel) -> set[str]:
    """The first figure of each audit that is run at this level, up to what differs between its figures."""
    named = (re.search(r"`([\w.]*\w)", audit.__doc__ or "") for audit in LEVELS[level].after)
    return {found[1].rstrip("_.") for found in named if found is not None}


@pytest.mark.parametrize("level", ASKED)
def test_every_audit_of_a_level_is_listed(level: AuditLevel) -> None:
    column = 2 + ASKED.index(level)
    listed = {row[0].split("`")[1] for row in cells(section("Audits and levels")) if row[column] == "x"}
    asked = figures_of(level)
    # Of the others by likelihood there are several, of which the page names one.
    assert (listed - {"membership.loss"}) | {"membership"} == asked | {"ranking.first_token"}


def test_levels_have_the_sizes_that_are_told() -> None:
    told = section("Audits and levels")
    sizes = {level: LEVELS[level].sizes for level in ASKED}
    assert f"up to {sizes['full'].pairs} pairs in the place of {sizes['standard'].pairs} " in told
    assert f"(`quick`: {sizes['quick'].pairs})" in told
    assert f"{sizes['standard'].relearning_steps[0]} steps, at `full` {sizes['full'].relearning_steps[1]}, too" in told
    assert EvaluationConfig().audits == "standard"


def test_every_rule_of_the_verdict_is_listed_with_its_meaning() -> None:
    listed = [tuple(cell.strip("`") for cell in row) for row in cells(section("Targets and the verdict"))]
    assert listed == [(rule.target, rule.figures, rule.meaning) for rule in RULES]
    assert {rule.target for rule in RULES} == VerdictTargets.model_fields.keys()


def test_the_ladder_climbs_as_it_is_told() -> None:
    config = UnlearnConfig.model_validate({"evaluation": {"retries": 2}, "training": {"steps": 100}})
    first, second, third = rungs(config, 8)
    assert [rung.training.steps for rung in (first, second, third)] == [100, 150, 200]
    assert second.method == first.method
    changed = {
        name: getattr(third.method, name) / value
        for name, value in first.method.model_dump().items()
        if getattr(third.method, name) != value
    }
    assert changed == {"teachers": 2, "likelihood_weight": 1.5}
    told = section("The ladder")
    assert "1. one and a half times the steps;" in told
    assert "twice the teachers and one and a half times the `likelihood_weight`" in told


def test_a_rung_keeps_the_name_that_a_dump_hides() -> None:
    method = {"name": "vgid", "instruction": "Forget {name}.", "subject_name": "Zenobia"}
    for rung in rungs(UnlearnConfig.model_validate({"method": method, "evaluation": {"retries": 2}}), 8):
        assert getattr(rung.method, "subject_name").get_secret_value() == "Zenobia"  # noqa: B009


def test_the_guards_are_told_with_their_limits() -> None:
    told = section("Before anything is trained")
    assert re.findall(r"^- \*\*`([a-z-]+)`\*\*", told, re.MULTILINE) == [
        "nothing-to-forget",
        "common-knowledge",
        "label-contradicted",
        "retain-holds-forgotten",
    ]
    assert MOST == 0.1
    assert "more than a tenth of the photos" in told


def test_every_outcome_is_told() -> None:
    rows = cells(section("How a job ends", "docs/how-to/read-evidence.md"))
    told = {name for row in rows for name in re.findall(r"`([a-z-]+)`", row[1])}
    assert told == {outcome.value for outcome in Outcome}
    assert {transitions.TARGETS_NOT_MET, transitions.NOTHING_TO_FORGET} < told
    assert max(map(len, told)) <= (Job.__table__.c.outcome.type.length or 0)


def test_an_evaluation_can_end_with_each_outcome() -> None:
    rows = cells(section("Read", "docs/how-to/check-again.md"))
    assert [row[1].strip("`") for row in rows if row[0] == "`succeeded`"] == [outcome.value for outcome in Outcome]


def subclasses(kind: type[UnlearnError]) -> Iterator[type[UnlearnError]]:
    for each in kind.__subclasses__():
        yield each
        yield from subclasses(each)


def test_every_error_that_a_job_can_end_with_is_told() -> None:
    rows = cells(section("Why a job failed", "docs/reference/problems.md"))
    told = {slug for row in rows for slug in re.findall(r"`([a-z-]+)`", row[0])}
    ours = {kind.code for kind in subclasses(UnlearnError) if kind.__module__ == vgid_core.errors.__name__}
    worker = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "worker/attempt").glob("*.py"))
    refused = set(re.findall(r'JobNotRunnable\("([a-z-]+)"', worker)) | {"data-unusable"}
    ended = {transitions.TARGETS_NOT_MET, transitions.ATTEMPTS_EXHAUSTED, transitions.RUN_TOO_LONG}
    assert told == (ours - {RunStopped.code, RequestsRefused.code}) | refused | ended
