"""Refuses a forget set that the retain set also holds: one would teach what the other is to take away."""

from __future__ import annotations

import logging

from vgid_core.data.leaks import ImageFingerprint, find_leaks
from vgid_core.data.pairs import PairSet
from vgid_core.errors import RetainHoldsForgotten

log = logging.getLogger(__name__)

MOST = 0.1  # of the forget set's photos


def require_apart(forget: PairSet, retain: PairSet) -> None:
    """Logs how many photos of the forget set stand in the retain set, too, in another encoding or size.

    Raises RetainHoldsForgotten if that is more than a tenth of them. Identical files are left out of the retain set
    before (`RunSets.of`). Decodes every photo once.
    """
    prints = {items.name: _fingerprints(items) for items in (forget, retain)}
    pairs = {items.name: dict(enumerate(items)) for items in (forget, retain)}
    copies = find_leaks(pairs[retain.name], prints[retain.name], pairs[forget.name], prints[forget.name]).similar_image
    photos = {forget.pairs[index].image.digest for index in copies}
    if not photos:
        return
    of = len(prints[forget.name])
    message = f"{len(photos)} of the {of} photos to forget stand in the retain set, too, as copies"
    if len(photos) > MOST * of:
        raise RetainHoldsForgotten(f"{message}: take them out of one of the sets")
    log.warning("%s", message)


def _fingerprints(items: PairSet) -> dict[str, ImageFingerprint]:
    photos = {pair.image.digest: pair.image for pair in items}
    return {digest: ImageFingerprint.of(photo.decode()) for digest, photo in photos.items()}
