"""The demo's checks: which results count as failed."""

from __future__ import annotations

from datetime import UTC, datetime

from local.demo_run.checks import failed_checks
from vgid_client import Job, Metric

GOOD = {
    "forget": (1.0, 0.04),
    "held_out_photos": (0.99, 0.06),
    "rephrased": (0.98, 0.04),
    "retain": (1.0, 0.99),
    "retain_check": (1.0, 0.98),
    "utility": (0.98, 0.95),
}


def job(scores: dict[str, tuple[float, float]], state: str = "succeeded", outcome: str | None = "forgotten") -> Job:
    metrics = [
        Metric(split=split, name="rouge_l", before=before, after=after, pairs=30)
        for split, (before, after) in scores.items()
    ]
    now = datetime.now(UTC)
    return Job(id="1", state=state, model="demo", created_at=now, metrics=tuple(metrics), outcome=outcome)


def test_a_good_run_passes_every_check() -> None:
    assert failed_checks(job(GOOD), ["a"], ["a"]) == []


def test_what_is_still_known_is_named() -> None:
    (sentence,) = failed_checks(job(GOOD | {"rephrased": (0.98, 0.3)}), [], [])
    assert sentence == "Forgetting failed: ROUGE-L on 'rephrased' is 0.300, above 0.1."


def test_what_was_lost_is_named() -> None:
    (sentence,) = failed_checks(job(GOOD | {"utility": (0.98, 0.5)}), [], [])
    assert "'utility' fell from 0.980 to 0.500" in sentence


def test_changed_answers_and_missing_figures_count() -> None:
    partial = {split: scores for split, scores in GOOD.items() if split != "retain"}
    assert failed_checks(job(partial), ["a", "b"], ["a", "c"]) == [
        "ROUGE-L on 'retain' wasn't measured.",
        "1 of 2 answers changed that must not change.",
    ]


def test_a_job_that_nobody_judged_is_named() -> None:
    assert failed_checks(job(GOOD, outcome=None), [], []) == ["The verdict isn't that they are forgotten: None."]


def test_a_job_that_did_not_succeed_says_how_it_ended() -> None:
    assert failed_checks(job({}, "cancelled"), [], []) == ["The job ended as cancelled."]
