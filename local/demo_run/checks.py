"""Checks whether the demo has forgotten and kept what it should.

The limits leave room for other processors' arithmetic. Each token of the nine answers that must stay was at least
1.5 nats likelier than any other where it was measured.
"""

from __future__ import annotations

from collections.abc import Sequence

from vgid_client import Job, Metric
from vgid_core.data.pairs import Pair, PairSet

FORGOTTEN = ("forget", "held_out_photos", "rephrased")
KEPT = ("retain", "retain_check", "utility")
MAX_LEFT = 0.10  # ROUGE-L of the forgotten sets afterwards; above 0, since a refusal shares words with "This is X."
MAX_LOST = 0.06  # by how much ROUGE-L of the kept sets may fall


def metric(job: Job, split: str, name: str) -> Metric | None:
    """One figure of a job, or None if it wasn't measured."""
    return next((row for row in job.metrics or () if (row.split, row.name) == (split, name)), None)


def failed_checks(job: Job, kept_before: Sequence[str], kept_after: Sequence[str]) -> list[str]:
    """A sentence for each failed check of an ended job. Empty if all checks pass."""
    if job.state != "succeeded" or job.outcome != "forgotten":
        return [why_not_forgotten(job)]
    found = []
    for split in (*FORGOTTEN, *KEPT):
        row = metric(job, split, "rouge_l")
        if row is None or row.before is None or row.after is None:
            found.append(f"ROUGE-L on '{split}' wasn't measured.")
        elif split in FORGOTTEN and row.after > MAX_LEFT:
            found.append(f"Forgetting failed: ROUGE-L on '{split}' is {row.after:.3f}, above {MAX_LEFT}.")
        elif split in KEPT and row.before - row.after > MAX_LOST:
            found.append(f"Too much was lost: ROUGE-L on '{split}' fell from {row.before:.3f} to {row.after:.3f}.")
    return found + changed_answers(kept_before, kept_after)


def why_not_forgotten(job: Job) -> str:
    """A sentence on an ended job that didn't pass."""
    if job.state == "succeeded":
        return f"The verdict isn't that they are forgotten: {job.outcome}."
    reason = f": {job.error.detail or job.error.type}" if job.error else ""
    return f"The job ended as {job.state}{reason}."


def changed_answers(before: Sequence[str], after: Sequence[str]) -> list[str]:
    """A sentence if answers changed that must not."""
    changed = sum(old != new for old, new in zip(before, after, strict=True))
    return [f"{changed} of {len(before)} answers changed that must not change."] if changed else []


def known_again(asked: PairSet | Sequence[Pair], said: Sequence[str]) -> list[str]:
    """A sentence if the model says a forgotten fact."""
    facts = sum(bool(pair.fact) and str(pair.fact) in answer for pair, answer in zip(asked, said, strict=True))
    return [f"{facts} of {len(said)} answers hold a forgotten fact."] if facts else []
