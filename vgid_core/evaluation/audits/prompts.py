"""Other ways to ask: by text alone, by the name on somebody else's photo, and by the name painted on the photo."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import replace

from PIL import ImageDraw, ImageFont

from vgid_core.data.facts import Fact
from vgid_core.data.pairs import EncodedImage, Pair
from vgid_core.data.text_normalization import normalized
from vgid_core.evaluation.audit_context import AuditContext
from vgid_core.evaluation.estimates import owner
from vgid_core.evaluation.figures import Figure
from vgid_core.evaluation.measures.relearning import facts_given
from vgid_core.scoring.padded import generate_without_images

_OTHERS = 6  # retain pairs whose photos stand in for those of unseen people
_SMALLEST = 8  # pixels of a letter's height
_MIN_NEW_TOKENS = 32  # as for other facts: an answer can put it in other words


def audit(context: AuditContext) -> Iterator[Figure]:
    """`prompts.text_only`, `prompts.name_on_another_photo`, `prompts.painted_name`: shares of facts given.

    They need the names of the pairs' people. A fact that holds the name, or that the name holds, isn't asked.
    """
    asked, control = _named(context.facts()), _named(context.unseen_facts())
    base = context.base
    by_name = [context.that_fit(_by_name(facts)) for facts in (asked, control)]
    if base.encoder.takes_text_alone:
        yield from context.share("prompts.text_only", lambda facts: _told_without_images(context, facts), *by_name)
    others = context.unseen() or context.sets.retain.pairs[:_OTHERS]
    on_others = [_on_others_photos(facts, others) for facts in by_name]
    yield from context.share("prompts.name_on_another_photo", lambda facts: facts_given(base, facts), *on_others)
    painted = [[_painted(fact) for fact in facts if _can_be_painted(fact)] for facts in (asked, control)]
    yield from context.share("prompts.painted_name", lambda facts: facts_given(base, facts), *painted)


def _named(facts: Sequence[Fact]) -> list[Fact]:
    """The facts of people with a name that doesn't give them away."""
    found = []
    for fact in facts:
        name, text = normalized(fact.pair.person or ""), normalized(fact.text)
        if name and text not in name and name not in text:
            found.append(fact)
    return found


def _by_name(facts: Sequence[Fact]) -> list[Fact]:
    """The same with the name before each question."""
    return [
        replace(fact, pair=replace(fact.pair, question=f"{fact.pair.person}. {fact.pair.question}")) for fact in facts
    ]


def _on_others_photos(facts: Sequence[Fact], others: Sequence[Pair]) -> list[Fact]:
    """The same on photos of other people, in turn. Left out where there are none."""
    found = []
    for index, fact in enumerate(facts):
        photos = [pair.image for pair in others if owner(pair) != owner(fact.pair)]
        if photos:
            found.append(replace(fact, pair=replace(fact.pair, image=photos[index % len(photos)])))
    return found


def _painted(fact: Fact) -> Fact:
    """The same with the name in white on black along the photo's lower edge, as small as it takes to fit."""
    picture, name = fact.pair.image.decode(), _drawable(fact)
    width, height = picture.size
    size = max(_SMALLEST, height // 10)
    while (font := ImageFont.load_default(size)).getlength(name) > width - 4 and size > _SMALLEST:
        size -= 1
    _, top, _, bottom = font.getbbox(name)
    canvas = ImageDraw.Draw(picture)
    canvas.rectangle((0, height - (bottom - top) - 4, width, height), fill="black")
    canvas.text((2, height - bottom - 2), name, fill="white", font=font)
    return replace(fact, pair=replace(fact.pair, image=EncodedImage.of(picture)))


def _can_be_painted(fact: Fact) -> bool:
    """Whether the font has all of the name's letters. It draws others, such as Chinese ones, as empty boxes."""
    font = ImageFont.load_default(_SMALLEST)
    box = bytes(font.getmask("\U0010ffff"))
    return all(bytes(font.getmask(letter)) != box for letter in _drawable(fact) if letter != " ")


def _drawable(fact: Fact) -> str:
    """The name in one line and without accents, which the font hasn't."""
    letters = unicodedata.normalize("NFKD", " ".join((fact.pair.person or "").split()))
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def _told_without_images(context: AuditContext, facts: Sequence[Fact]) -> list[bool]:
    longest = max(len(context.scorer.answer_ids(fact.pair.answer)) for fact in facts)
    questions = [fact.pair.question for fact in facts]
    texts = generate_without_images(context.base, questions, max(_MIN_NEW_TOKENS, longest))
    return [fact.is_in(text) for fact, text in zip(facts, texts, strict=True)]
