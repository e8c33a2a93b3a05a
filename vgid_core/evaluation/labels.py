"""Whether the names that a request gives its people are theirs, by what the base says of their photos.

A name is free text. If any counted, a request could take people out of everybody's retain set by writing their names
beside other photos.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from vgid_core.data.leaks import names_in
from vgid_core.data.pairs import Pair, PairSet
from vgid_core.data.sampling import even_sample
from vgid_core.data.text_normalization import normalized, words
from vgid_core.errors import LabelContradicted
from vgid_core.models.base import BaseModel
from vgid_core.scoring.padded import generate

_QUESTION = "Who is this?"
_MAX_NEW_TOKENS = 24
_PHOTOS = 8  # of each name that are looked at
_ASKED_AT_ONCE = 16


@dataclass(frozen=True)
class Labels:
    """What the base says of a request's names.

    confirmed: names, normalized, that are their people's: the base names them on a photo, or the photo stands under
    this name in a set about others, too. contradicted: by name, the index of the first pair on whose photo the base
    names somebody else, where no photo confirms the name.
    """

    confirmed: frozenset[str] = field(default=frozenset(), repr=False)
    contradicted: Mapping[str, int] = field(default_factory=dict, repr=False)


def read_labels(base: BaseModel, pairs: Sequence[Pair], registered: Iterable[Pair]) -> Labels:
    """Asks the base who is on the pairs' photos. registered: the pairs of sets about others."""
    known = {(pair.image.digest, normalized(pair.person)) for pair in registered if pair.person is not None}
    labelled: dict[str, dict[str, int]] = {}
    for index, pair in enumerate(pairs):
        if pair.person is not None:
            labelled.setdefault(normalized(pair.person), {}).setdefault(pair.image.digest, index)
    by_photo = {name for name, photos in labelled.items() if any((digest, name) in known for digest in photos)}
    looked_at = {
        name: even_sample(list(photos.values()), _PHOTOS) for name, photos in labelled.items() if name not in by_photo
    }
    # Never a question of the request's: an answer can be an echo.
    asked = [index for indices in looked_at.values() for index in indices]
    questions = [replace(pairs[index], question=_QUESTION, answer=_QUESTION, fact=None) for index in asked]
    told = dict(zip(asked, _answers(base, questions), strict=True))
    confirmed, contradicted = set(by_photo), {}
    for name, indices in looked_at.items():
        if any(_names(told[index], name) for index in indices):
            confirmed.add(name)
        elif (other := next((index for index in indices if names_in(told[index])), None)) is not None:
            contradicted[name] = other
    return Labels(frozenset(confirmed), contradicted)


def require_own_names(labels: Labels, sets: Sequence[PairSet]) -> None:
    """Raises LabelContradicted for a name that stands in a set about others, and isn't who the base sees.

    sets: those about others. Any other name takes nobody out of them, whoever it is.
    """
    listed = {normalized(pair.person) for items in sets for pair in items if pair.person is not None}
    found = [index for name, index in labels.contradicted.items() if name in listed]
    if found:
        raise LabelContradicted(
            f"forget[{min(found)}].person is somebody of whom the model keeps what it knows, and the model names "
            "somebody else on this photo. Correct the name, or leave it out."
        )


def _answers(base: BaseModel, pairs: Sequence[Pair]) -> list[str]:
    found: list[str] = []
    for start in range(0, len(pairs), _ASKED_AT_ONCE):
        chunk = pairs[start : start + _ASKED_AT_ONCE]
        found += base.encoder.decode(generate(base, chunk, _MAX_NEW_TOKENS))
    return found


def _names(text: str, name: str) -> bool:
    """Whether the text holds the name, and not as a part of a longer one."""
    spoken, sought = text.split(), words(name)
    for start in range(len(spoken)):
        for end in range(start + 1, len(spoken) + 1):
            if words(" ".join(spoken[start:end])) == sought:
                return not any(part[:1].isupper() for part in (*spoken[end : end + 1], *_before(spoken, start)))
    return len(spoken) == 1 and " ".join(sought) in " ".join(words(text))  # a script without spaces


def _before(spoken: Sequence[str], start: int) -> Sequence[str]:
    """The word before, unless it begins the text."""
    return spoken[start - 1 : start] if start > 1 else ()
