"""What anybody can see on the photos that are to be forgotten: what the base answers is to stay."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from itertools import cycle, islice, product

from vgid_core.config.methods import VISUAL_PAIRS, VgidSubstitute
from vgid_core.data.examples import DistillExample, same_for_both
from vgid_core.data.pairs import Pair
from vgid_core.data.text_normalization import normalized
from vgid_core.methods.base import MethodContext
from vgid_core.methods.terms import precompute
from vgid_core.methods.vgid_substitute.base_answers import base_answers, without_what_identifies
from vgid_core.methods.vgid_substitute.substitutes import Substitutes

log = logging.getLogger(__name__)

_MOST = 64  # different pairs, each of which costs an answer of the base


class VisualRetain:
    """Visual questions on forget photos, so many a step, over and over."""

    def __init__(self, settings: VgidSubstitute, context: MethodContext, substitutes: Substitutes) -> None:
        wanted = min(_MOST, VISUAL_PAIRS * context.steps) if context.training.retain_weight > 0 else 0
        self._pairs = visual_pairs(settings.visual_questions, context, substitutes, wanted)
        self._endless = cycle(same_for_both(self._pairs))
        precompute(context, same_for_both(self._pairs))

    def next(self) -> list[DistillExample]:
        """Those of the next step: none where there are none at all."""
        return list(islice(self._endless, VISUAL_PAIRS))


def visual_pairs(questions: Sequence[str], context: MethodContext, substitutes: Substitutes, most: int) -> list[Pair]:
    """The questions on photos of the forget set, each with what the base answers; at most `most` pairs.

    A student learns to be careful with the photos of those whom it forgets, and no retain set holds them. Forgetting
    comes first: questions that the forget set asks are left out, and so are answers that hold an identifying token or
    word of one of its answers.
    """
    if not most or not questions:
        return []
    to_forget = {normalized(pair.question) for pair in context.forget}
    others = [question for question in questions if normalized(question) not in to_forget]
    if not others:
        log.warning("visual_questions: the forget set asks them all, so nothing is kept of what they ask")
        return []
    photos = list({pair.image.digest: pair.image for pair in context.forget}.values())
    asked = list(product(photos, others))
    random.Random(context.seed).shuffle(asked)
    answered = base_answers(context, asked[:most])
    harmless = without_what_identifies(context, substitutes, answered)
    # A few may go by chance: a colour can be a name, too. If most go, the questions ask about the person.
    if 2 * len(harmless) < len(answered):
        left_out = len(answered) - len(harmless)
        log.warning("visual_questions: %d of %d answers identify the forgotten: left out", left_out, len(answered))
    return harmless
