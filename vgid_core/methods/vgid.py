"""VGID (arXiv 2606.00105): the student learns the base's outputs on a perturbed image and an instructed question."""

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
from vgid_core.methods.vgid_substitute.photos import bounded


def setup(settings: Vgid, context: MethodContext) -> MakeUpdates:
    """One update a step, on the forget batch towards the teacher, and one on the retain batch, towards the base."""
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
    """Applies VGID's two interventions: perturbs images and adds the instruction to questions, with its own seed.

    Each call of `examples` is a step. A scheduled strength reaches its final value at the last of `steps`. bound: limit
    perturbed images to the size of `photos.bounded`, for examples of which many are held at once.
    """

    def __init__(self, method: TeacherInterventions, seed: int, steps: int = 1, bound: bool = False) -> None:
        self._method = method
        self._steps = steps
        self._bound = bound
        self._made_steps = 0
        self._noise = torch.Generator().manual_seed(seed)
        self._draws = method.fixed_draws
        self._draw_rng = random.Random(seed)
        self._fixed_draws: dict[tuple[object, int], TeacherImage] = {}

    def examples(self, pairs: Sequence[Pair]) -> list[DistillExample]:
        """The next step's examples, one for each pair, in order.

        A batch has one perturbed image for each image, or for each size if nothing of the image is left: then all its
        questions share one prefix.
        """
        kind = self._method.perturbation.at(self._next_progress())
        draw = 0 if self._draws is None else self._draw_rng.randrange(self._draws)
        images: dict[object, TeacherImage] = {}
        examples = []
        for pair in pairs:
            key: object = pair.image.size if kind.replaces_image else pair.image.digest
            if key not in images:
                images[key] = (
                    self._perturb(pair.image, kind)
                    if self._draws is None
                    else self._fixed_draw(pair.image, kind, key, draw)
                )
            examples.append(DistillExample(pair, images[key], self._method.instructed(pair.question)))
        return examples

    def _next_progress(self) -> float:
        """Counts a step and returns the run's progress: 0 at the first step, 1 at the last."""
        progress = min(1.0, self._made_steps / max(1, self._steps - 1))
        self._made_steps += 1
        return progress

    def _perturb(self, image: EncodedImage, kind: PerturbationConfig) -> Image.Image:
        picture = image.decode()
        size = bounded(picture.size) if self._bound else picture.size
        return perturb(picture if size == picture.size else picture.resize(size), kind, self._noise)

    def _fixed_draw(self, image: EncodedImage, kind: PerturbationConfig, key: object, draw: int) -> TeacherImage:
        """The fixed draw of this number, encoded: its digest lets the scorer cache the base's outputs."""
        if (key, draw) not in self._fixed_draws:
            self._fixed_draws[key, draw] = EncodedImage.of(self._perturb(image, kind))
        return self._fixed_draws[key, draw]
