"""Lessons for VGID's student: what the teacher is shown and asked in place of a forget item."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from PIL import Image

from vgid_core.data import EncodedImage, Pair
from vgid_core.intervention import PerturbationConfig
from vgid_core.lessons import Lesson, NoisePixels, Shown
from vgid_core.methods.vgid import Vgid
from vgid_core.perturb import perturb


class Teacher:
    """Shows disturbed images and asks instructed questions (VGID's two interventions), by a seed of its own.

    Its lessons are those of one step after the other; a strength that changes reaches its end at the last of `steps`.
    """

    def __init__(self, method: Vgid, seed: int, steps: int = 1) -> None:
        self._method = method
        self._steps = steps
        self._given = 0
        self._noise = torch.Generator().manual_seed(seed)
        self._draws = method.fixed_draws
        self._choice = random.Random(seed)
        self._fixed_draws: dict[tuple[object, int], Shown] = {}

    def lessons(self, pairs: Sequence[Pair]) -> list[Lesson]:
        """One a pair, in their order: the next step's.

        A batch has one disturbance for each image, and one for each size where nothing of the image is left in them:
        then all questions of the batch share one prefix. Noise in place of pixel values is each pair's own, as in the
        authors' code, unless its draws are fixed.
        """
        kind = self._method.perturbation.at(self._progress())
        number = 0 if self._draws is None else self._choice.randrange(self._draws)
        shown: dict[object, Shown] = {}
        lessons = []
        for index, pair in enumerate(pairs):
            key: object = pair.image.size if kind.replaces_image else pair.image.digest
            if self._draws is None and kind.kind == "uniform_normalised":
                key = index
            if key not in shown:
                shown[key] = (
                    self._disturbed(pair.image, kind)
                    if self._draws is None
                    else self._fixed(pair.image, kind, key, number)
                )
            lessons.append(Lesson(pair, shown[key], self._method.instructed(pair.question)))
        return lessons

    def _progress(self) -> float:
        """From 0 at the first step to 1 at the last, of the step whose lessons are now given."""
        progress = min(1.0, self._given / max(1, self._steps - 1))
        self._given += 1
        return progress

    def _disturbed(self, image: EncodedImage, kind: PerturbationConfig) -> NoisePixels | Image.Image:
        if kind.kind == "uniform_normalised":
            return NoisePixels(image, int(torch.randint(2**62, (), generator=self._noise)))
        return perturb(image.decode(), kind, self._noise)

    def _fixed(self, image: EncodedImage, kind: PerturbationConfig, key: object, number: int) -> Shown:
        """The draw of this number. Encoded, a picture has a name, by which what the base makes of it is kept."""
        if (key, number) not in self._fixed_draws:
            drawn = self._disturbed(image, kind)
            self._fixed_draws[key, number] = drawn if isinstance(drawn, NoisePixels) else EncodedImage.of(drawn)
        return self._fixed_draws[key, number]
