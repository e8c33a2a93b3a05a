"""Checks whether the demo has forgotten and kept what it should.

The limits leave room for other processors' arithmetic. Each token of the nine answers that must stay was at least
1.5 nats likelier than any other where it was measured.
"""

from __future__ import annotations

from collections.abc import Sequence

from vgid_client import Job, Metric

FORGOTTEN = ("forget", "held_out_photos", "rephrased")
KEPT = ("retain", "retain_check", "utility")
MAX_LEFT = 0.10  # ROUGE-L of the forgotten sets afterwards; above 0, since a refusal shares words with "This is X."
MAX_LOST = 0.06  # by how much ROUGE-L of the kept sets may fall


def metric(job: Job, split: str, name: str) -> Metric | None:
    """One figure of a job, or None if it wasn't measured."""
    return next((row for row in job.metrics or () if (row.split, row.name) == (split, name)), None)


def failed_checks(job: Job, kept_before: Sequence[str], kept_after: Sequence[str]) -> list[str]:
    """A sentence for each failed check of an ended job. Empty if all checks pass."""
    if job.state != "succeeded":
        reason = f": {job.error.detail or job.error.type}" if job.error else ""
        return [f"The job ended as {job.state}{reason}."]
    found = [] if job.outcome == "forgotten" else [f"The verdict isn't that they are forgotten: {job.outcome}."]
    for split in (*FORGOTTEN, *KEPT):
        row = metric(job, split, "rouge_l")
        if row is None or row.before is None or row.after is None:
            found.append(f"ROUGE-L on '{split}' wasn't measured.")
        elif split in FORGOTTEN and row.after > MAX_LEFT:
            found.append(f"Forgetting failed: ROUGE-L on '{split}' is {row.after:.3f}, above {MAX_LEFT}.")
        elif split in KEPT and row.before - row.after > MAX_LOST:
            found.append(f"Too much was lost: ROUGE-L on '{split}' fell from {row.before:.3f} to {row.after:.3f}.")
    changed = sum(before != after for before, after in zip(kept_before, kept_after, strict=True))
    if changed:
        found.append(f"{changed} of {len(kept_before)} answers changed that must not change.")
    return found
