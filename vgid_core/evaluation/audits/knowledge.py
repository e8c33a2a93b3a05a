"""Knowledge: does the model know these answers of these photos at all? Asked of the base, before anything is trained.

ROUGE-L can't tell: a model that has never met a person answers in the usual template, which shares words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from vgid_core.data.leaks import names_in
from vgid_core.data.pairs import Pair
from vgid_core.data.text_normalization import normalized
from vgid_core.evaluation.audit_context import AuditContext
from vgid_core.evaluation.figures import Control, Figure
from vgid_core.evaluation.measures.extraction_strength import extraction_strengths

OTHERS_PHOTOS = "the same on other people's photos"


def audit(context: AuditContext) -> Iterator[Figure]:
    """`knowledge`: Extraction Strength of the forget set's answers, beside the same answers on retain photos.

    `knowledge.unprompted`: the share of answers that come whole, with nothing given. A name that is given brings the
    rest on any photo, so only these tell what is common knowledge. Questions that name their person are left out: the
    name may tell the answer on any photo, as it should.
    """
    members = [pair for pair in context.members() if not _names_its_person(pair)]
    if not members:
        return
    own = extraction_strengths(context.scorer, members)
    others = extraction_strengths(context.scorer, _on_others_photos(context, members))
    for name, values in (("knowledge", (own, others)), ("knowledge.unprompted", (_whole(own), _whole(others)))):
        found, elsewhere = (context.estimate(members, each) for each in values)
        yield context.figure(name, found, Control.measured(OTHERS_PHOTOS, elsewhere))


def _whole(strengths: Sequence[float]) -> list[float]:
    return [float(strength == 1) for strength in strengths]


def _names_its_person(pair: Pair) -> bool:
    if pair.person is not None:
        return normalized(pair.person) in normalized(pair.question)
    return bool(names_in(pair.question) & names_in(pair.answer))


def _on_others_photos(context: AuditContext, pairs: Sequence[Pair]) -> list[Pair]:
    forgotten = {pair.person for pair in pairs if pair.person is not None}
    retained = [pair for pair in context.sets.retain if pair.person not in forgotten] or context.sets.retain.pairs
    photos = list(dict.fromkeys(pair.image for pair in retained))
    step = max(1, len(photos) // len(pairs))
    return [replace(pair, image=photos[index * step % len(photos)]) for index, pair in enumerate(pairs)]
