"""Whether the demo showed what it says it shows.

The bars leave room for other processors' arithmetic; and of the nine answers that must stay, each token was likelier
than any other by 1.5 nats or more where it was measured.
"""

from __future__ import annotations

from collections.abc import Sequence

from vgid_client import Job, Metric

FORGOTTEN = ("forget", "held_out_photos", "rephrased")
KEPT = ("retain", "retain_check", "utility")
MOST_LEFT = 0.10  # ROUGE-L that may be left of what was to be forgotten; a refusal shares words with "This is X."
MOST_LOST = 0.06  # ROUGE-L that what was to be kept may fall by


def metric(job: Job, split: str, name: str) -> Metric | None:
    """One figure of a job, if it was measured."""
    return next((row for row in job.metrics or () if (row.split, row.name) == (split, name)), None)


def complaints(job: Job, kept_before: Sequence[str], kept_after: Sequence[str]) -> list[str]:
    """What is wrong with a finished job, a sentence each; nothing when it forgot and kept as it should."""
    if job.state != "succeeded":
        reason = f": {job.error.detail or job.error.type}" if job.error else ""
        return [f"The job ended as {job.state}{reason}."]
    found = []
    for split in (*FORGOTTEN, *KEPT):
        row = metric(job, split, "rouge_l")
        if row is None or row.before is None or row.after is None:
            found.append(f"ROUGE-L on '{split}' wasn't measured.")
        elif split in FORGOTTEN and row.after > MOST_LEFT:
            found.append(f"Forgetting failed: ROUGE-L on '{split}' is {row.after:.3f}, above {MOST_LEFT}.")
        elif split in KEPT and row.before - row.after > MOST_LOST:
            found.append(f"Too much was lost: ROUGE-L on '{split}' fell from {row.before:.3f} to {row.after:.3f}.")
    changed = sum(before != after for before, after in zip(kept_before, kept_after, strict=True))
    if changed:
        found.append(f"{changed} of {len(kept_before)} answers changed that must not change.")
    return found
