"""What anybody can see on the photos that are to be forgotten: what the base says of it is to stay as it is."""

from __future__ import annotations

import logging
import random
from itertools import product
from typing import TYPE_CHECKING

from vgid_core.config import EvaluationConfig
from vgid_core.data.pairs import EncodedImage, Pair
from vgid_core.data.text import alike, words
from vgid_core.methods.vgid_alias.aliases import common_among
from vgid_core.methods.vgid_alias.kept_beside import can_be_said, most_of
from vgid_core.methods.vgid_alias.teaching import aliases_for
from vgid_core.models import distributed
from vgid_core.models.base import adapter_off

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vgid_core.config.methods import VgidAlias
    from vgid_core.methods.base import MethodContext

log = logging.getLogger(__name__)

_MOST_TOKENS = 64  # of an answer


def visible_pairs(method: VgidAlias, run: MethodContext) -> list[Pair]:
    """The method's visible questions on photos of the forget set, each with what the base answers.

    A student learns to be careful with the photos of those whom it forgets, and no retain set holds them, so nothing
    else keeps what they show. But forgetting comes first: questions that the forget set asks are left out, and so are
    answers with a token or a word that tells of somebody (see `aliases`) and stands in one of the forget set's.
    """
    most = most_of(run, method.visible_pairs)
    if not most or not method.visible_questions:
        return []
    asked = {alike(pair.question) for pair in run.forget}
    questions = [question for question in method.visible_questions if alike(question) not in asked]
    if not questions:
        log.warning("visible_questions: the forget set asks them all, so nothing is kept of what they ask")
        return []
    photos = list({pair.image.digest: pair.image for pair in run.forget}.values())
    places = list(product(photos, questions))
    random.Random(run.seed).shuffle(places)
    found = _answered(run, places[:most])
    harmless = _that_tell_nothing(method, run, found)
    # A colour may be somebody's name, too. Where most answers go, the questions are about the person.
    if 2 * len(harmless) < len(found):
        log.warning(
            "visible_questions: %d of %d answers tell what is to be forgotten, and aren't kept",
            len(found) - len(harmless),
            len(found),
        )
    return harmless


def _answered(run: MethodContext, places: Sequence[tuple[EncodedImage, str]]) -> list[Pair]:
    """What the base says by itself, as far as it is a text."""
    pairs = [Pair(photo, question, "?") for photo, question in places]
    settings = EvaluationConfig(batch_size=run.training.micro_batch_size, max_new_tokens=_MOST_TOKENS)
    with adapter_off(run.base):
        examined = run.scorer.score_answers(pairs, settings)
    said = run.base.encoder.decode([answer.said for answer in examined])
    texts = distributed.broadcast(said)  # all processes must keep the same, to the letter
    return [
        Pair(pair.image, pair.question, text) for pair, text in zip(pairs, texts, strict=True) if can_be_said(run, text)
    ]


def _that_tell_nothing(method: VgidAlias, run: MethodContext, pairs: Sequence[Pair]) -> list[Pair]:
    aliases = aliases_for(method, run, run.seed)
    answers = {pair.answer for pair in run.forget}
    told = {token for answer in answers for token in aliases.telling(run.scorer.answer_ids(answer))}
    telling = _telling_words(answers, {pair.answer for pair in run.retain}, method.common_share)
    return [
        pair
        for pair in pairs
        if not told & aliases.telling(run.scorer.answer_ids(pair.answer)) and telling.isdisjoint(words(pair.answer))
    ]


def _telling_words(answers: set[str], kept: set[str], common_share: float) -> set[str]:
    """Words of `answers` as `Aliases` has telling tokens: a word has other tokens where it begins an answer."""
    common = common_among([set(words(answer)) for answer in kept], common_share)
    held = {word for answer in answers for word in words(answer)}
    return {word for word in held if word not in common or word.isdigit()}
