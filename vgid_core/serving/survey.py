"""Asks a server about facts in several ways, and counts what it tells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from vgid_core.data.facts import Fact
from vgid_core.data.pairs import EncodedImage
from vgid_core.data.text_normalization import normalized
from vgid_core.evaluation.measures.rouge import rouge_l
from vgid_core.serving.endpoint import Endpoint, ServedModel
from vgid_core.serving.errors import EndpointRefused

Show = Callable[[str], None]


class Way(StrEnum):
    """The ways to ask, in their order.

    again: the very prompts once more, which a server may answer from its prefix cache. changed_photo: the photo with
    one pixel changed, for which no server has a cached prefix. control, control_base: the adapter and the base about
    people who must stay known.
    """

    adapter = "adapter"
    again = "again"
    changed_photo = "changed_photo"
    text_only = "text_only"
    base = "base"
    no_name = "no_name"
    control = "control"
    control_base = "control_base"
    after_reload = "after_reload"


@dataclass(frozen=True)
class Figures:
    """Counts of one way. told: facts that the answers hold. rouge_l: mean against the true answers, of those given."""

    asked: int
    answered: int
    told: int
    rouge_l: float | None


@dataclass(frozen=True)
class Replies:
    """The replies of one way to the facts' questions, in their order; None where there is no answer."""

    facts: Sequence[Fact] = field(repr=False)
    texts: Sequence[str | None] = field(repr=False)

    @property
    def told(self) -> set[int]:
        """Places of the facts that are told."""
        return {
            place
            for place, (fact, text) in enumerate(zip(self.facts, self.texts, strict=True))
            if text is not None and fact.is_in(text)
        }

    @property
    def answered(self) -> int:
        """How many questions have an answer."""
        return sum(text is not None for text in self.texts)

    @property
    def figures(self) -> Figures:
        """The counts."""
        given = [
            (text, fact.pair.answer) for fact, text in zip(self.facts, self.texts, strict=True) if text is not None
        ]
        score = rouge_l([text for text, _ in given], [answer for _, answer in given]) if given else None
        return Figures(len(self.facts), self.answered, len(self.told), score)

    def share_equal(self, others: Sequence[str | None]) -> float:
        """The share of the answers that equal those of `others`, both normalized; 0 without answers."""
        pairs = [(one, two) for one, two in zip(self.texts, others, strict=True) if one is not None and two is not None]
        return sum(normalized(one) == normalized(two) for one, two in pairs) / len(pairs) if pairs else 0.0


@dataclass(frozen=True)
class Survey:
    """All replies of a server. base: the base's name, if one is known. not_reloaded: why there is no after_reload."""

    adapter: str
    base: str | None
    replies: dict[Way, Replies]
    not_reloaded: str | None

    def figures(self) -> dict[str, dict[str, Any]]:
        """The counts by way, in JSON types."""
        return {str(way): asdict(found.figures) for way, found in self.replies.items()}


def survey(
    endpoint: Endpoint,
    adapter: str,
    base: str | None,
    facts: Sequence[Fact],
    control: Sequence[Fact],
    reload: bool,
    show: Show,
) -> Survey:
    """Asks in every way. reload: also has the server load the adapter anew, which takes it away for a moment.

    base: None takes the one that the server names as the adapter's. control: facts about people who must stay known;
    none leaves these ways out. Raises EndpointError, also if the server refuses the adapter's name.
    """
    served = {model.name: model for model in endpoint.models()}
    base = base or (served[adapter].parent if adapter in served else None)
    asker = _Asker(endpoint, facts, show)
    replies = {Way.adapter: asker.ask(Way.adapter, adapter)}
    if not replies[Way.adapter].answered:
        raise EndpointRefused(_no_answer(adapter, served, asker.last_status))
    replies[Way.again] = asker.ask(Way.again, adapter)
    replies[Way.changed_photo] = asker.ask(Way.changed_photo, adapter, with_one_pixel_changed)
    replies[Way.text_only] = asker.ask(Way.text_only, adapter, lambda _: None)
    if base is not None:
        replies[Way.base] = asker.ask(Way.base, base)
    replies[Way.no_name] = asker.ask(Way.no_name, None)
    if control:
        others = _Asker(endpoint, control, show)
        replies[Way.control] = others.ask(Way.control, adapter)
        if base is not None:
            replies[Way.control_base] = others.ask(Way.control_base, base)
    not_reloaded: str | None = "--reload asks for it"
    if reload:
        show("reloading")
        not_reloaded = endpoint.reload(served.get(adapter, ServedModel(adapter, None, None)))
        if not_reloaded is None:
            replies[Way.after_reload] = asker.ask(Way.after_reload, adapter)
    return Survey(adapter, base, replies, not_reloaded)


class _Asker:
    """Asks about all facts in one way. A way whose first question is refused is closed, and isn't asked further."""

    def __init__(self, endpoint: Endpoint, facts: Sequence[Fact], show: Show) -> None:
        self._endpoint = endpoint
        self._facts = facts
        self._show = show
        self.last_status = 0

    def ask(
        self, way: Way, model: str | None, photo: Callable[[EncodedImage], EncodedImage | None] = lambda image: image
    ) -> Replies:
        texts: list[str | None] = []
        for fact in self._facts:
            self._show(f"asking: {way.replace('_', ' ')}, {len(texts)} of {len(self._facts)}")
            reply = self._endpoint.ask(model, fact.pair.question, photo(fact.pair.image))
            self.last_status = reply.status
            if reply.text is None and not texts:
                return Replies(self._facts, [None] * len(self._facts))
            texts.append(reply.text if reply.text and reply.text.strip() else None)
        return Replies(self._facts, texts)


def with_one_pixel_changed(image: EncodedImage) -> EncodedImage:
    """The same photo, its first pixel's blue one step lighter or darker. Raises DataError if it can't be decoded."""
    picture = image.decode()
    red, green, blue = picture.getpixel((0, 0))  # type: ignore[misc]
    picture.putpixel((0, 0), (red, green, blue + 1 if blue < 255 else blue - 1))
    return EncodedImage.of(picture)


def _no_answer(adapter: str, served: dict[str, ServedModel], status: int) -> str:
    if status in (401, 403):
        return f"the server refuses '{adapter}' with this key (VGID_ENDPOINT_KEY)"
    listed = f"it lists {', '.join(sorted(served))}" if served else "it lists no model"
    return f"the server gives no answer as '{adapter}' (status {status}); {listed}"
