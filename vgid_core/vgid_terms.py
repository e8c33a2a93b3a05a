"""VGID's terms: at answer tokens, or at every position of padded rows as its public code takes them.

Such a row is `[image and prompt | answer | padding]`, padding on the right; a position's logits predict the next token,
or nothing that matters, and count all the same. Rows of teacher and student line up only if their prompts are equally
long.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vgid_core.answer_path import AnswerPath
from vgid_core.base_model import BaseModel, adapter_off
from vgid_core.lessons import Lesson, Part, Role, Term
from vgid_core.losses import token_kl, token_log_probability
from vgid_core.perturb import replace_pixels
from vgid_core.plain_path import decoded


def answer_term(
    path: AnswerPath, role: Role, lessons: Sequence[Lesson], weight: float, cross_entropy: bool = False
) -> Term:
    """KL(teacher || student) at answer tokens, in nats, mean per token.

    With `cross_entropy` a second part: -log p_theta of the same tokens, mean per token.
    """
    if not cross_entropy:
        return Term.of(role, lessons, weight, path.divergence)

    def values(some: Sequence[Lesson]) -> list[Tensor]:
        pairs = [lesson.pair for lesson in some]
        logits = path.student_logits(pairs)
        ids = torch.tensor([token for pair in pairs for token in path.answer_ids(pair.answer)], device=logits.device)
        return [token_kl(path.teacher_logits(some), logits), -token_log_probability(logits, ids)]

    return Term(role, lessons, [Part(weight), Part(weight)], values)


def whole_row_term(
    base: BaseModel, role: Role, lessons: Sequence[Lesson], weight: float, cross_entropy: bool = False
) -> Term:
    """KL(teacher || student) summed over a row's positions, in nats, mean over rows (`batchmean`); its loss per pair.

    With `cross_entropy` a second part: the mean of -log p_theta over every token of all rows but their first, those of
    image and prompt among them. Rows of all lessons are padded to one length, however many are computed at once.
    """
    student = _student_rows(base, lessons)
    length = student["input_ids"].shape[1]
    targets = int(student["attention_mask"][:, 1:].sum())

    def values(some: Sequence[Lesson]) -> list[Tensor]:
        inputs = _student_rows(base, some, length)
        logits = base.model(**inputs, use_cache=False).logits
        parts = [token_kl(_teacher_logits(base, some, length), logits).sum(-1)]
        if cross_entropy:
            scores = token_log_probability(logits[:, :-1], inputs["input_ids"][:, 1:])
            # A term counts pairs here, so its mean over pairs is made one over tokens.
            parts.append(-(scores * inputs["attention_mask"][:, 1:]).sum(-1) * len(lessons) / targets)
        return parts

    return Term(role, lessons, [Part(weight, "pair")] * (2 if cross_entropy else 1), values)


def _student_rows(base: BaseModel, lessons: Sequence[Lesson], length: int | None = None) -> dict[str, Tensor]:
    pairs = [lesson.pair for lesson in lessons]
    images, questions = [pair.image.decode() for pair in pairs], [pair.question for pair in pairs]
    return base.encoder.rows(images, questions, [pair.answer for pair in pairs], length)


@torch.no_grad()
def _teacher_logits(base: BaseModel, lessons: Sequence[Lesson], length: int) -> Tensor:
    shown = [lesson.shown for lesson in lessons]
    answers = [lesson.heard or lesson.pair.answer for lesson in lessons]
    rows = base.encoder.rows([decoded(image) for image in shown], [lesson.asked for lesson in lessons], answers, length)
    with adapter_off(base):
        logits: Tensor = base.model(**replace_pixels(rows, shown), use_cache=False).logits
    return logits
