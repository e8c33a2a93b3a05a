"""Lessons for VGID's student: what the teacher is shown and asked in place of a forget item."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from PIL import Image

from vgid_core.data import EncodedImage, Pair
from vgid_core.lessons import Lesson
from vgid_core.methods.vgid import Vgid
from vgid_core.perturb import perturb


class Teacher:
    """Shows disturbed images and asks instructed questions (VGID's two interventions), by a seed of its own."""

    def __init__(self, method: Vgid, seed: int) -> None:
        self._method = method
        self._noise = torch.Generator().manual_seed(seed)
        self._draws = method.fixed_draws
        self._choice = random.Random(seed)
        self._fixed_draws: dict[tuple[object, int], EncodedImage] = {}

    def lessons(self, pairs: Sequence[Pair]) -> list[Lesson]:
        """One a pair, in their order.

        A batch has one disturbance for each image, and one for each size where nothing of the image is left in them:
        then all questions of the batch share one prefix.
        """
        kind = self._method.perturbation
        number = 0 if self._draws is None else self._choice.randrange(self._draws)
        shown: dict[object, EncodedImage | Image.Image] = {}
        lessons = []
        for pair in pairs:
            key = pair.image.size if kind.replaces_image else pair.image.digest
            if key not in shown:
                shown[key] = (
                    self._disturbed(pair.image) if self._draws is None else self._fixed(pair.image, key, number)
                )
            lessons.append(Lesson(pair, shown[key], self._method.instructed(pair.question)))
        return lessons

    def _disturbed(self, image: EncodedImage) -> Image.Image:
        return perturb(image.decode(), self._method.perturbation, self._noise)

    def _fixed(self, image: EncodedImage, key: object, number: int) -> EncodedImage:
        """The draw of this number. Encoded, it has a name, by which what the base makes of it is kept."""
        if (key, number) not in self._fixed_draws:
            self._fixed_draws[key, number] = EncodedImage.of(self._disturbed(image))
        return self._fixed_draws[key, number]
