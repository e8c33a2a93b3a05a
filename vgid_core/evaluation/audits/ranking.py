"""Candidate ranking at both ends: can the true answer be read off a list of candidates, or off its bottom?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from statistics import fmean

from vgid_core.data.pairs import Pair
from vgid_core.data.sampling import even_sample
from vgid_core.evaluation.audit_context import AuditContext
from vgid_core.evaluation.figures import Control, Figure
from vgid_core.evaluation.measures.candidate_ranking import (
    FEWEST_CANDIDATES,
    Place,
    Score,
    by_first_token,
    by_logit_lens,
    by_whole_answer,
    places_among_answers,
    places_among_names,
)

_ASKED = 12  # pairs; each costs a pass for every candidate and photo
_OTHERS = 40  # names of people retained
_PHOTOS = 4


def by_likelihood(context: AuditContext) -> Iterator[Figure]:
    """`ranking.whole_answer.*` and `ranking.first_token.*`: where the true answer stands, by each likelihood."""
    yield from _ranked(context, "ranking.whole_answer", by_whole_answer(context.scorer))
    yield from first_token(context)


def first_token(context: AuditContext) -> Iterator[Figure]:
    """`ranking.first_token.*` alone: one pass a question."""
    yield from _ranked(context, "ranking.first_token", by_first_token(context.scorer))


def lens(context: AuditContext) -> Iterator[Figure]:
    """`ranking.lens.*`: by the middle layer's states, as whoever has the weights reads them."""
    yield from _read_at(context, "ranking.lens", 50)


def lens25(context: AuditContext) -> Iterator[Figure]:
    """`ranking.lens25.*`: the same a quarter up the decoder."""
    yield from _read_at(context, "ranking.lens25", 25)


def lens75(context: AuditContext) -> Iterator[Figure]:
    """`ranking.lens75.*`: the same three quarters up the decoder."""
    yield from _read_at(context, "ranking.lens75", 75)


def _read_at(context: AuditContext, name: str, percent: int) -> Iterator[Figure]:
    """The ranking by the states after so much of the decoder. Nothing of one without a norm of this name."""
    decoder = context.base.model.get_decoder()
    if hasattr(decoder, "norm"):
        layer = (len(decoder.layers) - 1) * percent // 100
        yield from _ranked(context, name, by_logit_lens(context.base, context.scorer, layer))


def _ranked(context: AuditContext, name: str, score: Score) -> Iterator[Figure]:
    """The share of questions with the true answer at each place. Nothing where there are fewer than ten candidates."""
    found = _places(context, score)
    if not found:
        return
    pairs = [pair for pair, _ in found]
    share = fmean(1 / (place.above + place.below + 1) for _, place in found)
    at_random = {"first": share, "first_five": min(1.0, 5 * share), "below": 0.5}
    rankings = [asdict(place.as_ranking) for _, place in found]
    for place in rankings[0]:
        estimate = context.estimate(pairs, [ranking[place] for ranking in rankings])
        yield context.figure(f"{name}.{place}", estimate, Control.chance(at_random[place.replace("last", "first")]))


def _places(context: AuditContext, score: Score) -> list[tuple[Pair, Place]]:
    """Among names, where the pairs name their people; else among the answers that others have to the same question."""
    members, unseen = context.members(), context.unseen()
    named = even_sample([pair for pair in members if pair.person and pair.person in pair.answer], _ASKED)
    others = even_sample(list(dict.fromkeys(pair.person for pair in context.sets.retain if pair.person)), _OTHERS)
    names = [*dict.fromkeys(pair.person for pair in [*members, *unseen] if pair.person), *others]
    photos = list(dict.fromkeys(pair.image for pair in unseen or context.sets.retain.pairs))
    if named and len(names) >= FEWEST_CANDIDATES:
        return places_among_names(score, named, names, even_sample(photos, _PHOTOS))
    return places_among_answers(score, members, unseen)
