"""What the losses of all methods are made of, whichever way it is computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from vgid_core.config import EvaluationConfig
from vgid_core.data.examples import DistillExample
from vgid_core.data.pairs import Pair
from vgid_core.losses.top_k import TopKDistribution


@dataclass(frozen=True)
class ScoredAnswer:
    """What the model says to one question, and how likely it finds the expected answer.

    said: token ids, the end of turn included if it came. log_probabilities: nats, [answer tokens], on the host.
    """

    said: list[int]
    log_probabilities: Tensor


class Scorer(Protocol):
    """A way to compute what losses are made of, at the answer tokens of all pairs or examples, in their order."""

    name: str

    def divergence(self, examples: Sequence[DistillExample]) -> Tensor:
        """KL in nats at every answer token of all examples, in their order: [answer tokens], float32."""

    def kl_and_logprob(self, pairs: Sequence[Pair], target: TopKDistribution) -> tuple[Tensor, Tensor]:
        """KL(target || student) and the student's log p, in nats, at every answer token of all pairs.

        Args: target, for each of these tokens one. Both [answer tokens], float32.
        """

    def student_logits(self, pairs: Sequence[Pair]) -> Tensor:
        """The adapted model's, with gradients, at every answer token of all pairs: [answer tokens, vocabulary]."""

    def teacher_logits(self, examples: Sequence[DistillExample]) -> Tensor:
        """The base's on what the teacher is shown, without gradients: [answer tokens, vocabulary]."""

    def student_log_probability(self, pairs: Sequence[Pair]) -> Tensor:
        """The adapted model's log p of every answer token, in nats, with gradients: [answer tokens], float32."""

    def teacher_log_probability(self, examples: Sequence[DistillExample]) -> Tensor:
        """The base's log p of every answer token on what the teacher is shown, without gradients: [answer tokens]."""

    def student_states(self, pairs: Sequence[Pair], layer: int) -> Tensor:
        """The adapted model's states after a decoder layer (0-based), with gradients: [answer tokens, hidden].

        At each place that predicts an answer token.
        """

    def teacher_states(self, examples: Sequence[DistillExample], layer: int) -> Tensor:
        """The base's states on what the teacher is shown, without gradients, as in `student_states`."""

    def score_answers(self, pairs: Sequence[Pair], config: EvaluationConfig) -> list[ScoredAnswer]:
        """What the model says to each pair's question, greedily, and how likely it finds the pair's answer."""

    def answer_ids(self, answer: str) -> list[int]:
        """Tokens of the answer, its end of turn among them."""

    def precompute(self, examples: Sequence[DistillExample]) -> None:
        """Computes together what the teacher says on examples that come again, where it is kept; else nothing."""

    def release(self, examples: Sequence[DistillExample]) -> None:
        """Drops what is kept of the base for these examples, which don't come again."""

    def replay_cache(self, compute: Callable[[], object]) -> None:
        """Leaves behind for later what `compute` would, which calls this scorer: no more is computed than that."""


def answer_tokens(scorer: Scorer, pairs: Sequence[Pair]) -> Tensor:
    """The tokens that the student is to say: [answer tokens], on the host."""
    return torch.tensor([token for pair in pairs for token in scorer.answer_ids(pair.answer)])
