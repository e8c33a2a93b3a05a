"""Other ways to ask: by text alone, by the name on somebody else's photo, and by the name painted on the photo."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from PIL import ImageDraw, ImageFont

from vgid_core.data.facts import Fact
from vgid_core.data.pairs import EncodedImage
from vgid_core.data.text_normalization import normalized
from vgid_core.evaluation.audits.context import AuditContext
from vgid_core.evaluation.figures import Figure
from vgid_core.evaluation.relearning import facts_given
from vgid_core.scoring.padded import generate_without_images


def audit(context: AuditContext) -> Iterator[Figure]:
    """`prompts.text_only`, `prompts.name_on_another_photo`, `prompts.painted_name`: shares of facts given.

    They need the names of the pairs' people. A fact that holds the name, or that the name holds, isn't asked.
    """
    asked, control = _named(context.facts()), _named(context.strangers_facts())
    base = context.base
    if base.encoder.takes_text_alone:
        yield from context.share(
            "prompts.text_only", lambda facts: _told_without_images(context, facts), _by_name(asked), _by_name(control)
        )
    if others := [pair.image for pair in context.strangers()] or [pair.image for pair in context.sets.retain.pairs[:6]]:
        on_others = [_on_others_photos(_by_name(facts), others) for facts in (asked, control)]
        yield from context.share("prompts.name_on_another_photo", lambda facts: facts_given(base, facts), *on_others)
    painted = [[_painted(fact) for fact in facts] for facts in (asked, control)]
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


def _on_others_photos(facts: Sequence[Fact], photos: Sequence[EncodedImage]) -> list[Fact]:
    return [
        replace(fact, pair=replace(fact.pair, image=photos[index % len(photos)])) for index, fact in enumerate(facts)
    ]


def _painted(fact: Fact) -> Fact:
    """The same with the name in white on black along the photo's lower edge."""
    picture = fact.pair.image.decode()
    width, height = picture.size
    size = max(8, height // 10)
    canvas = ImageDraw.Draw(picture)
    canvas.rectangle((0, height - size - 4, width, height), fill="black")
    canvas.text((2, height - size - 3), fact.pair.person or "", fill="white", font=ImageFont.load_default(size))
    return replace(fact, pair=replace(fact.pair, image=EncodedImage.of(picture)))


def _told_without_images(context: AuditContext, facts: Sequence[Fact]) -> list[bool]:
    longest = max(len(context.scorer.answer_ids(fact.pair.answer)) for fact in facts)
    texts = generate_without_images(context.base, [fact.pair.question for fact in facts], longest)
    return [fact.is_in(text) for fact, text in zip(facts, texts, strict=True)]
