"""What anybody can see on the photos that are to be forgotten: what the base answers is to stay."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from itertools import cycle, islice, product

from vgid_core.config import EvaluationConfig
from vgid_core.config.methods import VISUAL_PAIRS, VgidAlias
from vgid_core.data.examples import DistillExample, same_for_both
from vgid_core.data.pairs import DataError, EncodedImage, Pair
from vgid_core.data.text_normalization import alike, words
from vgid_core.methods.base import MethodContext
from vgid_core.methods.terms import precompute
from vgid_core.methods.vgid_alias.aliases import COMMON_SHARE, Aliases, common_among
from vgid_core.models import distributed
from vgid_core.models.base import adapter_off

log = logging.getLogger(__name__)

_MOST = 64  # different pairs, each of which costs an answer of the base
_MOST_TOKENS = 64  # of an answer


class VisualRetain:
    """Visual questions on forget photos, so many a step, over and over."""

    def __init__(self, settings: VgidAlias, context: MethodContext, aliases: Aliases) -> None:
        wanted = min(_MOST, VISUAL_PAIRS * context.steps) if context.training.retain_weight > 0 else 0
        self._pairs = visual_pairs(settings.visual_questions, context, aliases, wanted)
        self._endless = cycle(same_for_both(self._pairs))
        precompute(context, same_for_both(self._pairs))

    def next(self) -> list[DistillExample]:
        """Those of the next step: none where there are none at all."""
        return list(islice(self._endless, VISUAL_PAIRS))


def visual_pairs(questions: Sequence[str], context: MethodContext, aliases: Aliases, most: int) -> list[Pair]:
    """The questions on photos of the forget set, each with what the base answers, `most` of them.

    A student learns to be careful with the photos of those whom it forgets, and no retain set holds them. Forgetting
    comes first: questions that the forget set asks are left out, and so are answers that hold an identifying token or
    word of one of its answers.
    """
    if not most or not questions:
        return []
    asked = {alike(pair.question) for pair in context.forget}
    others = [question for question in questions if alike(question) not in asked]
    if not others:
        log.warning("visual_questions: the forget set asks them all, so nothing is kept of what they ask")
        return []
    photos = list({pair.image.digest: pair.image for pair in context.forget}.values())
    places = list(product(photos, others))
    random.Random(context.seed).shuffle(places)
    answered = _answered(context, places[:most])
    harmless = _that_identify_nobody(context, aliases, answered)
    # A colour may be somebody's name, too. Where most answers go, the questions are about the person.
    if 2 * len(harmless) < len(answered):
        told = len(answered) - len(harmless)
        log.warning("visual_questions: %d of %d answers tell what is to be forgotten: left out", told, len(answered))
    return harmless


def _answered(context: MethodContext, places: Sequence[tuple[EncodedImage, str]]) -> list[Pair]:
    """What the base says by itself, as far as it is a text."""
    pairs = [Pair(photo, question, "?") for photo, question in places]
    settings = EvaluationConfig(batch_size=context.training.micro_batch_size, max_new_tokens=_MOST_TOKENS)
    with adapter_off(context.base):
        found = context.scorer.score_answers(pairs, settings)
    said = context.base.encoder.decode([answer.said for answer in found])
    texts = distributed.broadcast(said)  # all processes must keep the same, to the letter
    return [
        Pair(pair.image, pair.question, text)
        for pair, text in zip(pairs, texts, strict=True)
        if _is_a_text(context, text)
    ]


def _is_a_text(context: MethodContext, text: str) -> bool:
    """Whether tokens put together make a text: parts of characters, or of control tokens, may come together."""
    try:
        context.scorer.answer_ids(text)
    except DataError:
        return False
    return bool(text) and "\N{REPLACEMENT CHARACTER}" not in text


def _that_identify_nobody(context: MethodContext, aliases: Aliases, pairs: Sequence[Pair]) -> list[Pair]:
    answers = {pair.answer for pair in context.forget}
    ids = context.scorer.answer_ids
    told = {token for answer in answers for token in aliases.identifying(ids(answer))}
    identifying = _identifying_words(answers, {pair.answer for pair in context.retain})
    return [
        pair
        for pair in pairs
        if not told & aliases.identifying(ids(pair.answer)) and identifying.isdisjoint(words(pair.answer))
    ]


def _identifying_words(answers: set[str], retained: set[str]) -> set[str]:
    """Words of `answers` as `Aliases` has identifying tokens: a word has other tokens where it begins an answer."""
    common = common_among([set(words(answer)) for answer in retained], COMMON_SHARE)
    held = {word for answer in answers for word in words(answer)}
    return {word for word in held if word not in common or word.isdigit()}
