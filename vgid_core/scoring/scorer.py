"""The interface of scorers: outputs of student and teacher at answer tokens, from which methods make their losses."""

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
    """The model's greedy answer to one question, and the likelihood of the expected answer.

    generated_ids: token ids, with the end of turn if it was reached. log_probabilities: those of the expected answer's
    tokens, [answer tokens], in nats, on the host.
    """

    generated_ids: list[int]
    log_probabilities: Tensor


class Scorer(Protocol):
    """Computes student and teacher outputs at answer tokens.

    The student is the model as it stands, on the pair: with its adapter, unless that is switched off (`adapter_off`).
    The teacher is the base, on the example's teacher inputs. Results hold the answer tokens of all pairs or examples
    one after another ("answer tokens" below), in the order given, with the end of turn. Student outputs have gradients,
    teacher outputs don't.
    """

    name: str

    def divergence(self, examples: Sequence[DistillExample]) -> Tensor:
        """KL(teacher || student) at each answer token, in nats: [answer tokens], float32."""

    def divergence_and_movement(self, examples: Sequence[DistillExample]) -> tuple[Tensor, Tensor]:
        """`divergence`, and |h - h_0|^2 / |h_0|^2 of the last states h, from which logits are made; in one pass.

        h_0: the teacher's. Returns two of [answer tokens], float32.
        """

    def kl_and_logprob(self, pairs: Sequence[Pair], target: TopKDistribution) -> tuple[Tensor, Tensor]:
        """KL(target || student) and the student's log p of each answer token, in nats: both [answer tokens], float32.

        target: one distribution for each answer token.
        """

    def student_logits(self, pairs: Sequence[Pair]) -> Tensor:
        """The student's logits at each answer token: [answer tokens, vocabulary]."""

    def teacher_logits(self, examples: Sequence[DistillExample]) -> Tensor:
        """The teacher's logits at each answer token: [answer tokens, vocabulary]."""

    def student_log_probability(self, pairs: Sequence[Pair]) -> Tensor:
        """The student's log p of each answer token, in nats: [answer tokens], float32."""

    def teacher_log_probability(self, examples: Sequence[DistillExample]) -> Tensor:
        """The teacher's log p of each answer token, in nats: [answer tokens], float32."""

    def student_states(self, pairs: Sequence[Pair], layer: int) -> Tensor:
        """The student's hidden states after a decoder layer (0-based), where an answer token is predicted.

        Returns [answer tokens, hidden].
        """

    def teacher_states(self, examples: Sequence[DistillExample], layer: int) -> Tensor:
        """The teacher's hidden states, as in `student_states`."""

    def score_answers(self, pairs: Sequence[Pair], config: EvaluationConfig) -> list[ScoredAnswer]:
        """The model's greedy answer to each pair's question, and the likelihood of the pair's own answer."""

    def answer_ids(self, answer: str) -> list[int]:
        """Token ids of the answer with its end of turn."""

    def precompute(self, examples: Sequence[DistillExample]) -> None:
        """Computes and caches the teacher's outputs on these examples in one pass, if the scorer caches them."""

    def release(self, examples: Sequence[DistillExample]) -> None:
        """Drops what is cached for these examples, which won't be used again."""

    def replay_cache(self, compute: Callable[[], object]) -> None:
        """Fills the caches as `compute`, a function that calls this scorer, would. Computes nothing else."""


def answer_tokens(scorer: Scorer, pairs: Sequence[Pair]) -> Tensor:
    """The token ids of all pairs' answers: [answer tokens], on the host."""
    return torch.tensor([token for pair in pairs for token in scorer.answer_ids(pair.answer)])
