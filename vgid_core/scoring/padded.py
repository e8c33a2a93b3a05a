"""The padded scorer: one padded row a pair, through the model's own forward. Correct for every family."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vgid_core.config import EvaluationConfig
from vgid_core.data.examples import DistillExample, TeacherImage, pairs_of
from vgid_core.data.pairs import Pair
from vgid_core.losses.token_losses import (
    relative_square_distance,
    token_kl,
    token_kl_of_top_k,
    token_log_probability,
)
from vgid_core.losses.top_k import TopKDistribution
from vgid_core.models.base import BaseModel, adapter_off, answer_logits, head_inputs, layer_outputs
from vgid_core.models.encoding import Batch
from vgid_core.scoring.scorer import ScoredAnswer, answer_tokens

_SAMPLED_AT_ONCE = 64


class PaddedScorer:
    """Scores padded rows through the model's own forward. Caches nothing."""

    name = "padded"

    def __init__(self, base: BaseModel) -> None:
        self._base = base
        self._encoder = base.encoder

    def answer_ids(self, answer: str) -> list[int]:
        """As `Scorer.answer_ids`."""
        return self._encoder.answer_ids(answer)

    def precompute(self, examples: Sequence[DistillExample]) -> None:
        """As `Scorer.precompute`: does nothing, since there is no cache."""

    def release(self, examples: Sequence[DistillExample]) -> None:
        """As `Scorer.release`: does nothing."""

    def replay_cache(self, compute: Callable[[], object]) -> None:
        """As `Scorer.replay_cache`: does nothing."""

    def divergence(self, examples: Sequence[DistillExample]) -> Tensor:
        """As `Scorer.divergence`."""
        return token_kl(self.teacher_logits(examples), self.student_logits([example.pair for example in examples]))

    def divergence_and_movement(self, examples: Sequence[DistillExample]) -> tuple[Tensor, Tensor]:
        """As `Scorer.divergence_and_movement`."""
        with torch.no_grad(), adapter_off(self._base):
            target, origin = self._logits_and_states(self._teacher_batch(examples))
        logits, states = self._logits_and_states(encode_pairs(self._base, pairs_of(examples)))
        return token_kl(target, logits), relative_square_distance(states, origin)

    def _logits_and_states(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits that predict the answer tokens, and the states of which they are made."""
        with head_inputs(self._base) as inputs:
            logits = answer_logits(self._base, batch)
        return logits[batch.answer_mask], inputs[0][:, :-1][batch.answer_mask]

    def kl_and_logprob(self, pairs: Sequence[Pair], target: TopKDistribution) -> tuple[Tensor, Tensor]:
        """As `Scorer.kl_and_logprob`."""
        student = self.student_logits(pairs)
        ids = answer_tokens(self, pairs).to(student.device)
        return token_kl_of_top_k(target.to(student.device), student), token_log_probability(student, ids)

    def student_logits(self, pairs: Sequence[Pair]) -> Tensor:
        """As `Scorer.student_logits`."""
        student = encode_pairs(self._base, pairs)
        return answer_logits(self._base, student)[student.answer_mask]

    @torch.no_grad()
    def teacher_logits(self, examples: Sequence[DistillExample]) -> Tensor:
        """As `Scorer.teacher_logits`."""
        teacher = self._teacher_batch(examples)
        with adapter_off(self._base):
            return answer_logits(self._base, teacher)[teacher.answer_mask]

    def student_log_probability(self, pairs: Sequence[Pair]) -> Tensor:
        """As `Scorer.student_log_probability`."""
        student = encode_pairs(self._base, pairs)
        return token_log_probability(answer_logits(self._base, student), student.answer_ids)[student.answer_mask]

    @torch.no_grad()
    def teacher_log_probability(self, examples: Sequence[DistillExample]) -> Tensor:
        """As `Scorer.teacher_log_probability`."""
        return token_log_probability(
            self.teacher_logits(examples),
            answer_tokens(self, [example.pair for example in examples]).to(self._base.device),
        )

    def student_states(self, pairs: Sequence[Pair], layer: int) -> Tensor:
        """As `Scorer.student_states`."""
        return self._states(encode_pairs(self._base, pairs), layer)

    @torch.no_grad()
    def teacher_states(self, examples: Sequence[DistillExample], layer: int) -> Tensor:
        """As `Scorer.teacher_states`."""
        with adapter_off(self._base):
            return self._states(self._teacher_batch(examples), layer)

    def _states(self, batch: Batch, layer: int) -> Tensor:
        length = batch.answer_ids.shape[1]
        with layer_outputs(self._base, layer) as outputs:
            self._base.model(**batch.inputs, logits_to_keep=1, use_cache=False)
        return outputs[0][:, -length - 1 : -1][batch.answer_mask]

    def _teacher_batch(self, examples: Sequence[DistillExample]) -> Batch:
        """The teacher's inputs as padded rows."""
        answers = [example.teacher_prefix or self.answer_ids(example.pair.answer) for example in examples]
        images = [decode_image(example.teacher_image) for example in examples]
        questions = [example.teacher_question for example in examples]
        return self._encoder.batch(images, questions, answers)

    def score_answers(self, pairs: Sequence[Pair], config: EvaluationConfig) -> list[ScoredAnswer]:
        """As `Scorer.score_answers`."""
        found = []
        for start in range(0, len(pairs), config.batch_size):
            chunk = pairs[start : start + config.batch_size]
            generated = generate(self._base, chunk, config.max_new_tokens)
            batch = encode_pairs(self._base, chunk)
            with torch.no_grad():
                scores = token_log_probability(answer_logits(self._base, batch), batch.answer_ids).cpu()
            unpadded = [row[mask] for row, mask in zip(scores, batch.answer_mask.cpu(), strict=True)]
            found += [ScoredAnswer(*result) for result in zip(generated, unpadded, strict=True)]
        return found


# no_grad, not inference_mode: FSDP would gather sharded weights as inference tensors, which later can't have gradients.
@torch.no_grad()
def generate(base: BaseModel, pairs: Sequence[Pair], max_tokens: int) -> list[list[int]]:
    """Greedy answers to the pairs' questions by the model's own `generate`: token ids up to the end of turn."""
    inputs = base.encoder.prompts([p.image.decode() for p in pairs], [p.question for p in pairs])
    width = inputs["input_ids"].shape[1]
    # Explicit, since a model's generation config can ask for sampling or a repetition penalty.
    greedy: dict[str, Any] = {"do_sample": False, "num_beams": 1, "repetition_penalty": 1.0}
    output = base.model.generate(**inputs, max_new_tokens=max_tokens, **greedy)
    return [_truncate_at_end(ids, base.encoder.end_ids) for ids in output[:, width:].tolist()]


@torch.no_grad()
def sample_answers(base: BaseModel, pairs: Sequence[Pair]) -> list[str]:
    """The texts of answers drawn at temperature 1 from the model's whole distribution, as long as the pairs' own."""
    texts: list[str] = []
    for start in range(0, len(pairs), _SAMPLED_AT_ONCE):
        chunk = pairs[start : start + _SAMPLED_AT_ONCE]
        inputs = base.encoder.prompts([p.image.decode() for p in chunk], [p.question for p in chunk])
        longest = max(len(base.encoder.answer_ids(pair.answer)) for pair in chunk)
        drawn: dict[str, Any] = {
            "do_sample": True,
            "temperature": 1.0,
            "top_k": 0,
            "top_p": 1.0,
            "repetition_penalty": 1.0,
        }
        output = base.model.generate(**inputs, max_new_tokens=longest, **drawn)
        texts += base.encoder.decode(output[:, inputs["input_ids"].shape[1] :])
    return texts


@torch.no_grad()
def generate_without_images(base: BaseModel, questions: Sequence[str], max_tokens: int) -> list[str]:
    """The texts of greedy answers to questions without images, for a model that takes such."""
    inputs = base.encoder.text_prompts(questions)
    greedy: dict[str, Any] = {"do_sample": False, "num_beams": 1, "repetition_penalty": 1.0}
    output = base.model.generate(**inputs, max_new_tokens=max_tokens, **greedy)
    return base.encoder.decode(output[:, inputs["input_ids"].shape[1] :])


def encode_pairs(base: BaseModel, pairs: Sequence[Pair]) -> Batch:
    """Encodes the pairs as padded rows."""
    images = [pair.image.decode() for pair in pairs]
    return base.encoder.batch(images, [pair.question for pair in pairs], [pair.answer for pair in pairs])


def _truncate_at_end(ids: list[int], ends: frozenset[int]) -> list[int]:
    end = next((index for index, token in enumerate(ids) if token in ends), len(ids))
    return ids[: end + 1]


def decode_image(image: TeacherImage) -> Image.Image:
    """The picture of a teacher image, which can be encoded or decoded."""
    return image if isinstance(image, Image.Image) else image.decode()
