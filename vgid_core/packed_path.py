"""Rows that share what they have in common, with image features and retain targets kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

import torch
from torch import Tensor

from vgid_core.answer_path import spoken
from vgid_core.base_model import BaseModel, adapter_off, answer_logits
from vgid_core.config import EvaluationConfig
from vgid_core.data import EncodedImage, Pair
from vgid_core.fused_head import linear_imitation, linear_kl, linear_log_probability
from vgid_core.lessons import Lesson
from vgid_core.likeliest import Likeliest
from vgid_core.packed_answers import Examined, examine, go_on_by_rote
from vgid_core.packed_model import Compiler, Exchange, PackedModel
from vgid_core.plain_path import encode_pairs
from vgid_core.tensor_cache import TensorCache

_STEPS_CHECKED = 2  # of answers that go on token by token
_TARGET_BYTES = 2 * 1024**3  # of host memory for retain targets; what is more is computed again each time


class PackedPath:
    """Prefixes shared, image features and retain targets kept, logits never held as a whole."""

    name = "packed"

    def __init__(self, base: BaseModel, compiler: Compiler | None = None) -> None:
        self._base = base
        self._model = PackedModel(base, compiler)
        self.compiled = compiler is not None
        # What one process has kept and another hasn't would have them pass through a shared base out of step.
        self._targets = TensorCache(0 if base.sharded else _TARGET_BYTES)

    def answer_ids(self, answer: str) -> list[int]:
        """As `AnswerPath.answer_ids`."""
        return self._model.answer_ids(answer)

    def keep(self, lessons: Sequence[Lesson]) -> None:
        """As `AnswerPath.keep`. Not where layers are compiled: longer rows would be compiled anew."""
        states = sum(len(self.answer_ids(lesson.pair.answer)) for lesson in lessons) * self._model.head.shape[1]
        if self.compiled or not self._targets.has_room(states * self._model.head.element_size()):
            return
        with suppress(torch.OutOfMemoryError):  # then they are computed later, fewer at a time
            self._teacher(lessons)

    @torch.no_grad()
    def recall(self, compute: Callable[[], object]) -> None:
        """As `AnswerPath.recall`: image features and retain targets, each computed in the company it was in then."""
        with self._model.laying_out_only():
            compute()

    def divergence(self, lessons: Sequence[Lesson]) -> Tensor:
        """As `AnswerPath.divergence`."""
        target = self._teacher(lessons)
        return linear_kl(self._model.states(_exchanges([lesson.pair for lesson in lessons])), target, self._model.head)

    def imitation(self, pairs: Sequence[Pair], target: Likeliest) -> tuple[Tensor, Tensor]:
        """As `AnswerPath.imitation`."""
        device = self._base.device
        ids = spoken(self, pairs).to(device)
        return linear_imitation(self._model.states(_exchanges(pairs)), target.to(device), ids, self._model.head)

    def student_logits(self, pairs: Sequence[Pair]) -> Tensor:
        """As `AnswerPath.student_logits`."""
        return self._model.states(_exchanges(pairs)) @ self._model.head.T

    @torch.no_grad()
    def teacher_logits(self, lessons: Sequence[Lesson]) -> Tensor:
        """As `AnswerPath.teacher_logits`."""
        return self._teacher(lessons) @ self._model.head.T

    def student_log_probability(self, pairs: Sequence[Pair]) -> Tensor:
        """As `AnswerPath.student_log_probability`."""
        ids = spoken(self, pairs).to(self._base.device)
        return linear_log_probability(self._model.states(_exchanges(pairs)), ids, self._model.head)

    @torch.no_grad()
    def teacher_log_probability(self, lessons: Sequence[Lesson]) -> Tensor:
        """As `AnswerPath.teacher_log_probability`."""
        ids = spoken(self, [lesson.pair for lesson in lessons]).to(self._base.device)
        return linear_log_probability(self._teacher(lessons), ids, self._model.head)

    def student_states(self, pairs: Sequence[Pair], layer: int) -> Tensor:
        """As `AnswerPath.student_states`."""
        return self._model.layer_states(_exchanges(pairs), layer)

    @torch.no_grad()
    def teacher_states(self, lessons: Sequence[Lesson], layer: int) -> Tensor:
        """As `AnswerPath.teacher_states`."""
        with adapter_off(self._base):
            return self._model.layer_states([_as_taught(lesson) for lesson in lessons], layer)

    def examine(self, pairs: Sequence[Pair], config: EvaluationConfig) -> list[Examined]:
        """As `AnswerPath.examine`."""
        return examine(self._model, _exchanges(pairs), config.max_new_tokens, in_step=self._base.sharded)

    def deviation(self, pairs: Sequence[Pair]) -> float:
        """How far the packed base's logits are from the model's own, at the answer token where it is farthest.

        Root mean square over the vocabulary, relative to the spread of the model's own logits. Both those of one pass
        and those of answers that go on token by token.
        """
        batch = encode_pairs(self._base, pairs)
        with torch.no_grad(), adapter_off(self._base):
            own = answer_logits(self._base, batch).float()
            packed = (self._model.states(_exchanges(pairs)) @ self._model.head.T).float()
            differences = [packed - own[batch.answer_mask]]
            for index, logits in enumerate(go_on_by_rote(self._model, _exchanges(pairs), _STEPS_CHECKED), start=1):
                differences.append(logits.float() - own[:, index])
        farthest = max(float(difference.square().mean(-1).sqrt().max()) for difference in differences)
        return farthest / float(own[batch.answer_mask].std())

    @torch.no_grad()
    def _teacher(self, lessons: Sequence[Lesson]) -> Tensor:
        """The base's states for what the teacher is shown; those of retain lessons never change and are kept."""
        keys = [_key(lesson) for lesson in lessons]
        states: list[Tensor | None] = [None if key is None else self._targets.get(key) for key in keys]
        missing = [index for index, found in enumerate(states) if found is None]
        if missing:
            shown = [_as_taught(lessons[index]) for index in missing]
            kept = any(keys[index] is not None for index in missing)
            with adapter_off(self._base):
                fresh = self._model.states(shown, kept)
            lengths = [len(self._model.answer_ids(exchange.answer)) for exchange in shown]
            for index, part in zip(missing, torch.split(fresh, lengths), strict=True):
                states[index] = part
                key = keys[index]
                if key is not None:
                    self._targets.put(key, part)
        return torch.cat([part.to(self._model.head.device) for part in states if part is not None])


def _exchanges(pairs: Sequence[Pair]) -> list[Exchange]:
    return [Exchange(pair.image, pair.question, pair.answer) for pair in pairs]


def _as_taught(lesson: Lesson) -> Exchange:
    return Exchange(lesson.shown, lesson.asked, lesson.pair.answer, lesson.heard)


def _key(lesson: Lesson) -> tuple[object, ...] | None:
    """What names a teacher's target that comes again; None for a disturbed image or an alias of the answer."""
    if not isinstance(lesson.shown, EncodedImage) or lesson.heard is not None:
        return None
    return lesson.shown.digest, lesson.asked, lesson.pair.answer
