"""Pairs whose answers are the base's own: for photos that nobody has labelled."""

from __future__ import annotations

from collections.abc import Sequence

from vgid_core.config import EvaluationConfig
from vgid_core.data.pairs import DataError, EncodedImage, Pair
from vgid_core.data.text_normalization import words
from vgid_core.methods.base import MethodContext
from vgid_core.methods.vgid_substitute.substitutes import COMMON_SHARE, Substitutes, common_among
from vgid_core.models import distributed
from vgid_core.models.base import adapter_off

_MOST_TOKENS = 64  # of an answer


def base_answers(context: MethodContext, asked: Sequence[tuple[EncodedImage, str]]) -> list[Pair]:
    """Each photo and question with what the base says by itself; without those where that can't be an answer."""
    pairs = [Pair(photo, question, "?") for photo, question in asked]
    settings = EvaluationConfig(batch_size=context.training.micro_batch_size, max_new_tokens=_MOST_TOKENS)
    with adapter_off(context.base):
        found = context.scorer.score_answers(pairs, settings)
    said = context.base.encoder.decode([answer.generated_ids for answer in found])
    texts = distributed.broadcast(said)  # all processes must keep the same, to the letter
    return [
        Pair(pair.image, pair.question, text)
        for pair, text in zip(pairs, texts, strict=True)
        if _can_be_an_answer(context, text)
    ]


def _can_be_an_answer(context: MethodContext, text: str) -> bool:
    """Whether a pair can hold what the base generated: it isn't empty, and has no cut character or control token."""
    try:
        context.scorer.answer_ids(text)
    except DataError:
        return False
    return bool(text) and "\N{REPLACEMENT CHARACTER}" not in text


def without_what_identifies(context: MethodContext, substitutes: Substitutes, pairs: Sequence[Pair]) -> list[Pair]:
    """Those whose answers hold no identifying token or word of a forget answer."""
    answers = {pair.answer for pair in context.forget}
    ids = context.scorer.answer_ids
    identifying_tokens = {token for answer in answers for token in substitutes.identifying(ids(answer))}
    identifying_words = _identifying_words(answers, {pair.answer for pair in context.retain})
    return [
        pair
        for pair in pairs
        if identifying_tokens.isdisjoint(substitutes.identifying(ids(pair.answer)))
        and identifying_words.isdisjoint(words(pair.answer))
    ]


def _identifying_words(answers: set[str], retained: set[str]) -> set[str]:
    """The words of `answers` that few retained answers hold, and numbers.

    Tokens alone don't find them all: at an answer's beginning a word can be made of other tokens than within one.
    """
    common = common_among([set(words(answer)) for answer in retained], COMMON_SHARE)
    held = {word for answer in answers for word in words(answer)}
    return {word for word in held if word not in common or word.isdigit()}
