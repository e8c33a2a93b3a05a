"""Photos of nobody: the mean of several people's, as an alias of an answer is made of several people's facts."""

from __future__ import annotations

import random
from collections.abc import Sequence

from PIL import Image

from vgid_core.data.pairs import EncodedImage

_LONGEST_SIDE = 1024  # pixels


class AliasPhotos:
    """Draws means of a retain set's photos.

    What the base says of one is nearer to what it says of a person whom it never met than what it says of noise, of
    which it is surer that it knows nobody there (docs/method.md).
    """

    def __init__(self, photos: Sequence[EncodedImage], blended: int, seed: int) -> None:
        """`photos`: at least one. `blended`: of how many each is the mean; of all of them, where there are fewer."""
        self._photos = list(photos)
        self._blended = min(blended, len(self._photos))
        self._rng = random.Random(seed)

    def draw(self, size: tuple[int, int]) -> Image.Image:
        """RGB, of this width and height, `bounded`."""
        size = bounded(size)
        mean: Image.Image | None = None
        for count, photo in enumerate(self._rng.sample(self._photos, self._blended), start=1):
            picture = photo.decode().resize(size)
            mean = picture if mean is None else Image.blend(mean, picture, 1 / count)
        assert mean is not None
        return mean


def bounded(size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of the same shape, at most 1,024 pixels long: of such pictures dozens are held in memory."""
    scale = min(1.0, _LONGEST_SIDE / max(size))
    width, height = (max(1, round(side * scale)) for side in size)
    return width, height
