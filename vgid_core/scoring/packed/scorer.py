"""The packed scorer: packed rows with shared prefixes, cached image features and cached teacher states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

import torch
from torch import Tensor

from vgid_core.config import EvaluationConfig
from vgid_core.data.examples import DistillExample, same_for_both
from vgid_core.data.pairs import EncodedImage, Pair
from vgid_core.losses.fused_linear import linear_kl, linear_kl_and_logprob, linear_log_probability
from vgid_core.losses.token_losses import relative_square_distance
from vgid_core.losses.top_k import TopKDistribution
from vgid_core.models.base import BaseModel, adapter_off, answer_logits
from vgid_core.models.tensor_cache import TensorCache
from vgid_core.scoring.packed.decode import decode_teacher_forced, score_answers
from vgid_core.scoring.packed.model import Compiler, PackedModel
from vgid_core.scoring.padded import encode_pairs
from vgid_core.scoring.scorer import ScoredAnswer, answer_tokens

_CHECKED_STEPS = 2  # of token-by-token decoding
_TEACHER_STATE_BYTES = 2 * 1024**3  # of host memory; states beyond are recomputed each time


class PackedScorer:
    """Scores packed rows. Caches image features and the teacher's states; never holds all logits of a loss at once."""

    name = "packed"

    def __init__(self, base: BaseModel, compiler: Compiler | None = None) -> None:
        self._base = base
        self._model = PackedModel(base, compiler)
        self.compiled = compiler is not None
        # No cache with a sharded base: a hit in one process alone would skip a pass that the others wait in.
        self._targets = TensorCache(0 if base.sharded else _TEACHER_STATE_BYTES)

    def answer_ids(self, answer: str) -> list[int]:
        """As `Scorer.answer_ids`."""
        return self._model.answer_ids(answer)

    def precompute(self, examples: Sequence[DistillExample]) -> None:
        """As `Scorer.precompute`. Does nothing with compiled layers, which longer rows would recompile."""
        states = sum(len(self.answer_ids(example.pair.answer)) for example in examples) * self._model.head.shape[1]
        if self.compiled or not self._targets.has_room(states * self._model.head.element_size()):
            return
        with suppress(torch.OutOfMemoryError):  # they are computed later, in smaller batches
            self._teacher_states(examples)

    def release(self, examples: Sequence[DistillExample]) -> None:
        """As `Scorer.release`: drops image features and teacher states."""
        for example in examples:
            if (key := _cache_key(example)) is not None:
                self._targets.drop(key)
            for image in (example.pair.image, example.teacher_image):
                if isinstance(image, EncodedImage):
                    self._base.features.drop(image.digest)

    @torch.no_grad()
    def replay_cache(self, compute: Callable[[], object]) -> None:
        """As `Scorer.replay_cache`: image features and teacher states, in the same batches, hence to the same bits."""
        with self._model.layout_only():
            compute()

    def divergence(self, examples: Sequence[DistillExample]) -> Tensor:
        """As `Scorer.divergence`."""
        target = self._teacher_states(examples)
        return linear_kl(self._model.states(examples, "student"), target, self._model.head)

    def divergence_and_movement(self, examples: Sequence[DistillExample]) -> tuple[Tensor, Tensor]:
        """As `Scorer.divergence_and_movement`."""
        target, states = self._teacher_states(examples), self._model.states(examples, "student")
        return linear_kl(states, target, self._model.head), relative_square_distance(states, target)

    def kl_and_logprob(self, pairs: Sequence[Pair], target: TopKDistribution) -> tuple[Tensor, Tensor]:
        """As `Scorer.kl_and_logprob`."""
        device = self._base.device
        ids = answer_tokens(self, pairs).to(device)
        return linear_kl_and_logprob(
            self._model.states(same_for_both(pairs), "student"), target.to(device), ids, self._model.head
        )

    def student_logits(self, pairs: Sequence[Pair]) -> Tensor:
        """As `Scorer.student_logits`."""
        return self._model.states(same_for_both(pairs), "student") @ self._model.head.T

    @torch.no_grad()
    def teacher_logits(self, examples: Sequence[DistillExample]) -> Tensor:
        """As `Scorer.teacher_logits`."""
        return self._teacher_states(examples) @ self._model.head.T

    def student_log_probability(self, pairs: Sequence[Pair]) -> Tensor:
        """As `Scorer.student_log_probability`."""
        ids = answer_tokens(self, pairs).to(self._base.device)
        return linear_log_probability(self._model.states(same_for_both(pairs), "student"), ids, self._model.head)

    @torch.no_grad()
    def teacher_log_probability(self, examples: Sequence[DistillExample]) -> Tensor:
        """As `Scorer.teacher_log_probability`."""
        ids = answer_tokens(self, [example.pair for example in examples]).to(self._base.device)
        return linear_log_probability(self._teacher_states(examples), ids, self._model.head)

    def student_states(self, pairs: Sequence[Pair], layer: int) -> Tensor:
        """As `Scorer.student_states`."""
        return self._model.layer_states(same_for_both(pairs), "student", layer)

    @torch.no_grad()
    def teacher_states(self, examples: Sequence[DistillExample], layer: int) -> Tensor:
        """As `Scorer.teacher_states`."""
        with adapter_off(self._base):
            return self._model.layer_states(examples, "teacher", layer)

    def score_answers(self, pairs: Sequence[Pair], config: EvaluationConfig) -> list[ScoredAnswer]:
        """As `Scorer.score_answers`."""
        return score_answers(self._model, same_for_both(pairs), config.max_new_tokens, lockstep=self._base.sharded)

    def deviation(self, pairs: Sequence[Pair]) -> float:
        """The largest deviation of the packed base's logits from the model's own, over the answer tokens.

        A token's deviation is the root mean square over the vocabulary, relative to the standard deviation of the
        model's own logits. Compares the logits of one pass, and those of token-by-token decoding.
        """
        batch = encode_pairs(self._base, pairs)
        with torch.no_grad(), adapter_off(self._base):
            own = answer_logits(self._base, batch).float()
            packed = (self._model.states(same_for_both(pairs), "student") @ self._model.head.T).float()
            differences = [packed - own[batch.answer_mask]]
            decoded = decode_teacher_forced(self._model, same_for_both(pairs), _CHECKED_STEPS)
            for index, logits in enumerate(decoded, start=1):
                differences.append(logits.float() - own[:, index])
        largest = max(float(difference.square().mean(-1).sqrt().max()) for difference in differences)
        return largest / float(own[batch.answer_mask].std())

    @torch.no_grad()
    def _teacher_states(self, examples: Sequence[DistillExample]) -> Tensor:
        """The teacher's states that predict the answer tokens, [answer tokens, hidden]; cached if they can recur."""
        keys = [_cache_key(example) for example in examples]
        states: list[Tensor | None] = [None if key is None else self._targets.get(key) for key in keys]
        missing = [index for index, found in enumerate(states) if found is None]
        if missing:
            uncached = [examples[index] for index in missing]
            cacheable = any(keys[index] is not None for index in missing)
            with adapter_off(self._base):
                fresh = self._model.states(uncached, "teacher", cacheable)
            lengths = [len(self.answer_ids(example.pair.answer)) for example in uncached]
            for index, part in zip(missing, torch.split(fresh, lengths), strict=True):
                states[index] = part
                key = keys[index]
                if key is not None:
                    self._targets.put(key, part)
        return torch.cat([part.to(self._model.head.device) for part in states if part is not None])


def _cache_key(example: DistillExample) -> tuple[object, ...] | None:
    """The key of a teacher's states; None if they won't recur: for a perturbed image or a substitute of the answer."""
    if not isinstance(example.teacher_image, EncodedImage) or example.teacher_prefix is not None:
        return None
    return example.teacher_image.digest, example.teacher_question, example.pair.answer
