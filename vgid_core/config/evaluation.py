"""Settings of evaluations, audits and attacks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vgid_core.config.strict import Strict

AuditLevel = Literal["quick", "standard", "full"]


class EvaluationConfig(Strict):
    """Evaluation before and after: ROUGE-L of greedy answers, and the teacher-forced probability of the sets' answers.

    Each set is measured whole, or on an even sample of `max_pairs` pairs, the same ones every time. ROUGE-L compares
    words of any script; in scripts without spaces (Chinese, Japanese, Thai) it compares letters.
    """

    batch_size: int = Field(default=32, ge=1, le=256, description="pairs in a batch, with padded rows")
    max_new_tokens: int = Field(default=32, ge=1, le=1024, description="maximum tokens of a generated answer")
    max_pairs: int = Field(default=150, ge=1, le=100_000, description="maximum pairs of each set")
    audits: AuditLevel | None = Field(
        default="standard",
        description="audits after training, and the verdict on them. quick takes seconds, full everything there is; "
        "none measures answers alone, and such a run has no verdict",
    )


class AttackPlan(Strict):
    """The size of the attacks."""

    pairs: int = Field(default=60, ge=2, le=10_000, description="maximum pairs or facts of each attack")
    relearning_steps: int = Field(default=20, ge=1, le=1000, description="steps of the attacker's fine-tuning")
