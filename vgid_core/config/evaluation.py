"""Settings of evaluations, audits and attacks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vgid_core.config.strict import Strict

AuditLevel = Literal["none", "quick", "standard", "full"]


class EvaluationConfig(Strict):
    """Evaluation before and after: ROUGE-L of greedy answers, and the teacher-forced probability of the sets' answers.

    Each set is measured whole, or on an even sample of `max_pairs` pairs, the same ones every time. ROUGE-L compares
    words of any script; in scripts without spaces (Chinese, Japanese, Thai) it compares letters.
    """

    batch_size: int = Field(default=32, ge=1, le=256, description="pairs in a batch, with padded rows")
    max_new_tokens: int = Field(default=32, ge=1, le=1024, description="maximum tokens of a generated answer")
    max_pairs: int = Field(default=150, ge=1, le=100_000, description="maximum pairs of each set")
    audits: AuditLevel = Field(
        default="standard",
        description="which audits are run after training, for the verdict: quick takes seconds, full asks all there "
        "is; with none, answers alone are measured, and there is no verdict",
    )
    retries: int = Field(
        default=1,
        ge=0,
        le=2,
        description="how often a run whose verdict misses a target trains again, each time with stronger settings",
    )


class AttackPlan(Strict):
    """The size of the attacks."""

    pairs: int = Field(default=60, ge=2, le=10_000, description="maximum pairs or facts of each attack")
    relearning_steps: int = Field(default=20, ge=1, le=1000, description="steps of the attacker's fine-tuning")
