"""VGID (arXiv 2606.00105): the student learns what the perturbed, instructed base would have said."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from PIL import Image

from vgid_core.config.methods import TeacherInterventions, Vgid
from vgid_core.config.perturbation import PerturbationConfig
from vgid_core.data.examples import DistillExample, TeacherImage, same_for_both
from vgid_core.data.pairs import EncodedImage, Pair
from vgid_core.methods.base import MethodContext
from vgid_core.methods.loss_terms import LossTerm, MakeUpdates, Update
from vgid_core.methods.perturb import perturb
from vgid_core.methods.terms import retain_kl
from vgid_core.methods.vgid_alias.photos import bounded


def setup(settings: Vgid, context: MethodContext) -> MakeUpdates:
    """One update on what the teacher says to the forget batch, then one that keeps the retain batch."""
    training, scorer = context.training, context.scorer
    teacher = Teacher(settings, context.seed, context.steps)

    def updates(forget: Sequence[Pair], retain: Sequence[Pair]) -> list[Update]:
        term = LossTerm.of("forget", teacher.examples(forget), training.forget_weight, scorer.divergence)
        made: list[Update] = [[term]]
        if training.retain_weight > 0:
            made.append([retain_kl(context, same_for_both(retain))])
        return made

    return updates


class Teacher:
    """Shows disturbed images and asks instructed questions (VGID's two interventions), by a seed of its own.

    Its examples are those of one step after the other; a strength that changes reaches its end at the last of `steps`.
    `bound`: what is shown is no larger than `alias_photos.bounded`, for examples of which many are held at once.
    """

    def __init__(self, method: TeacherInterventions, seed: int, steps: int = 1, bound: bool = False) -> None:
        self._method = method
        self._steps = steps
        self._bound = bound
        self._given = 0
        self._noise = torch.Generator().manual_seed(seed)
        self._draws = method.fixed_draws
        self._choice = random.Random(seed)
        self._fixed_draws: dict[tuple[object, int], TeacherImage] = {}

    def examples(self, pairs: Sequence[Pair]) -> list[DistillExample]:
        """One a pair, in their order: the next step's.

        A batch has one disturbance for each image, and one for each size where nothing of the image is left in them:
        then all questions of the batch share one prefix.
        """
        kind = self._method.perturbation.at(self._next_step())
        number = 0 if self._draws is None else self._choice.randrange(self._draws)
        shown: dict[object, TeacherImage] = {}
        examples = []
        for pair in pairs:
            key: object = pair.image.size if kind.replaces_image else pair.image.digest
            if key not in shown:
                shown[key] = (
                    self._disturbed(pair.image, kind)
                    if self._draws is None
                    else self._fixed(pair.image, kind, key, number)
                )
            examples.append(DistillExample(pair, shown[key], self._method.instructed(pair.question)))
        return examples

    def _next_step(self) -> float:
        """Begins it: from 0 at the first step to 1 at the last."""
        progress = min(1.0, self._given / max(1, self._steps - 1))
        self._given += 1
        return progress

    def _disturbed(self, image: EncodedImage, kind: PerturbationConfig) -> Image.Image:
        picture = image.decode()
        size = bounded(picture.size) if self._bound else picture.size
        return perturb(picture if size == picture.size else picture.resize(size), kind, self._noise)

    def _fixed(self, image: EncodedImage, kind: PerturbationConfig, key: object, number: int) -> TeacherImage:
        """The draw of this number. Encoded, a picture has a name, by which what the base makes of it is kept."""
        if (key, number) not in self._fixed_draws:
            self._fixed_draws[key, number] = EncodedImage.of(self._disturbed(image, kind))
        return self._fixed_draws[key, number]
