"""Refuses a forget set that the retain set also holds: one would teach what the other is to take away."""

from __future__ import annotations

import logging
from collections.abc import Collection

from vgid_core.data.leaks import ImageFingerprint, find_leaks, names_in
from vgid_core.data.pairs import Pair, PairSet
from vgid_core.data.text_normalization import normalized
from vgid_core.errors import RetainHoldsForgotten

log = logging.getLogger(__name__)

MOST = 0.1  # of the forget set's photos, or pairs


def require_apart(forget: PairSet, retain: PairSet) -> None:
    """Logs how much of the forget set stands in the retain set, too: photos in another encoding or size, and texts.

    Texts are the same question with the same answer, if that names somebody. Raises RetainHoldsForgotten if it is more
    than a tenth of the photos or pairs. Identical files are left out of the retain set before (`RunSets.of`). Decodes
    every photo once.
    """
    prints = {items.name: _fingerprints(items) for items in (forget, retain)}
    pairs = {items.name: dict(enumerate(items)) for items in (forget, retain)}
    copies = find_leaks(pairs[retain.name], prints[retain.name], pairs[forget.name], prints[forget.name]).similar_image
    require_few({forget.pairs[index].image.digest for index in copies}, len(prints[forget.name]), "photos")
    told = {_text(pair) for pair in retain if names_in(pair.answer)}
    require_few([pair for pair in forget if _text(pair) in told], len(forget), "pairs' texts")


def require_few(found: Collection[object], of: int, what: str) -> None:
    """Raises RetainHoldsForgotten if more than a tenth were found in both sets; logs fewer."""
    if not found:
        return
    message = f"{len(found)} of the {of} {what} to forget stand in the retain set, too"
    if len(found) > MOST * of:
        raise RetainHoldsForgotten(f"{message}: take them out of one of the sets")
    log.warning("%s", message)


def _text(pair: Pair) -> tuple[str, str]:
    return normalized(pair.question), normalized(pair.answer)


def _fingerprints(items: PairSet) -> dict[str, ImageFingerprint]:
    photos = {pair.image.digest: pair.image for pair in items}
    return {digest: ImageFingerprint.read(photo) for digest, photo in photos.items()}
