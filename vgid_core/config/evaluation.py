"""How models are measured before and after."""

from __future__ import annotations

from pydantic import Field

from vgid_core.config.strict import Strict


class EvaluationConfig(Strict):
    """Greedy generation and teacher-forced likelihood over whole sets, or over an even sample of `max_pairs`.

    The sample holds one pair of each stretch of the set, drawn the same way every time. ROUGE-L compares words of any
    script; where no spaces part them (Chinese, Japanese, Thai), letters.
    """

    batch_size: int = Field(default=32, ge=1, le=256, description="pairs asked at once where rows aren't packed")
    max_new_tokens: int = Field(default=32, ge=1, le=1024, description="most tokens of a generated answer")
    max_pairs: int = Field(default=150, ge=1, le=100_000, description="pairs evaluated of each set")


class AttackPlan(Strict):
    """How much is asked of the attacks. Relearning is `evaluation.relearning.Relearning`."""

    pairs: int = Field(default=60, ge=2, le=10_000, description="pairs or facts each attack asks about, at most")
    relearning_steps: int = Field(default=20, ge=1, le=1000)
    relearning_batch_size: int = Field(default=8, ge=1, le=256)
    relearning_rate: float = Field(default=1e-3, gt=0, le=0.1)
    relearning_rank: int = Field(default=4, ge=1, le=1024)
