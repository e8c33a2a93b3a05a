"""Photos of people whom the model doesn't know: registered unseen faces, or blends of retain photos."""

from __future__ import annotations

import logging
import random

from PIL import Image

from vgid_core.data.pairs import EncodedImage
from vgid_core.methods.base import MethodContext

log = logging.getLogger(__name__)

_LONGEST_SIDE = 1024  # pixels
_BLENDS = 64
_PHOTOS_A_BLEND = 3


def unseen_face_photos(context: MethodContext, rng: random.Random) -> list[EncodedImage]:
    """The registered unseen faces; without any, blends of three retain photos each, and a warning.

    A blend lies between people whom the model knows. The model answers about a blend more surely than about a real
    unseen face, which helps an attacker who ranks names (docs/evaluation.md).
    """
    if context.unseen_faces:
        return list(context.unseen_faces)
    log.warning("no unseen faces are registered: blends of retain photos stand in, which hides names less well")
    photos = list({pair.image.digest: pair.image for pair in context.retain}.values())
    a_blend = min(_PHOTOS_A_BLEND, len(photos))
    return [_mean(rng.sample(photos, a_blend)) for _ in range(min(_BLENDS, 4 * len(photos)))]


def mixed(photo: EncodedImage, other: EncodedImage, share: float) -> EncodedImage:
    """`photo` with this share (0 to 1) of `other`, which takes its size; at most 1,024 pixels a side."""
    picture = photo.decode()
    size = bounded(picture.size)
    return EncodedImage.of(Image.blend(picture.resize(size), other.decode().resize(size), share))


def bounded(size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of the same shape, at most 1,024 pixels long: of such pictures dozens are held in memory."""
    scale = min(1.0, _LONGEST_SIDE / max(size))
    width, height = (max(1, round(side * scale)) for side in size)
    return width, height


def _mean(photos: list[EncodedImage]) -> EncodedImage:
    """Of at least one photo, at the first one's size."""
    size = bounded(photos[0].size)
    mean = photos[0].decode().resize(size)
    for count, photo in enumerate(photos[1:], start=2):
        mean = Image.blend(mean, photo.decode().resize(size), 1 / count)
    return EncodedImage.of(mean)
