"""Lessons for VGID's student: what the teacher is shown and asked in place of a forget item."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image

from vgid_core.alias_photos import AliasPhotos, bounded
from vgid_core.aliases import Alias, Aliases
from vgid_core.answer_path import AnswerPath
from vgid_core.data import EncodedImage, Pair
from vgid_core.intervention import PerturbationConfig
from vgid_core.lessons import Lesson, Shown
from vgid_core.methods.base import Run
from vgid_core.methods.taught import Taught
from vgid_core.methods.vgid_alias import VgidAlias
from vgid_core.perturb import perturb


class Teacher:
    """Shows disturbed images and asks instructed questions (VGID's two interventions), by a seed of its own.

    Its lessons are those of one step after the other; a strength that changes reaches its end at the last of `steps`.
    `bound`: what is shown is no larger than `alias_photos.bounded`, for lessons of which many are held at once.
    """

    def __init__(self, method: Taught, seed: int, steps: int = 1, bound: bool = False) -> None:
        self._method = method
        self._steps = steps
        self._bound = bound
        self._given = 0
        self._noise = torch.Generator().manual_seed(seed)
        self._draws = method.fixed_draws
        self._choice = random.Random(seed)
        self._fixed_draws: dict[tuple[object, int], Shown] = {}

    def lessons(self, pairs: Sequence[Pair]) -> list[Lesson]:
        """One a pair, in their order: the next step's.

        A batch has one disturbance for each image, and one for each size where nothing of the image is left in them:
        then all questions of the batch share one prefix.
        """
        kind = self._method.perturbation.at(self._next_step())
        number = 0 if self._draws is None else self._choice.randrange(self._draws)
        shown: dict[object, Shown] = {}
        lessons = []
        for pair in pairs:
            key: object = pair.image.size if kind.replaces_image else pair.image.digest
            if key not in shown:
                shown[key] = (
                    self._disturbed(pair.image, kind)
                    if self._draws is None
                    else self._fixed(pair.image, kind, key, number)
                )
            lessons.append(Lesson(pair, shown[key], self._method.instructed(pair.question)))
        return lessons

    def _next_step(self) -> float:
        """Begins it: from 0 at the first step to 1 at the last."""
        progress = min(1.0, self._given / max(1, self._steps - 1))
        self._given += 1
        return progress

    def _disturbed(self, image: EncodedImage, kind: PerturbationConfig) -> Image.Image:
        picture = image.decode()
        size = bounded(picture.size) if self._bound else picture.size
        return perturb(picture if size == picture.size else picture.resize(size), kind, self._noise)

    def _fixed(self, image: EncodedImage, kind: PerturbationConfig, key: object, number: int) -> Shown:
        """The draw of this number. Encoded, a picture has a name, by which what the base makes of it is kept."""
        if (key, number) not in self._fixed_draws:
            self._fixed_draws[key, number] = EncodedImage.of(self._disturbed(image, kind))
        return self._fixed_draws[key, number]


@dataclass(frozen=True)
class Hearing:
    """What one teacher is shown and asked in a pair's place, and the alias that it hears of the pair's answer."""

    lesson: Lesson
    alias: Alias

    @property
    def lessons(self) -> list[Lesson]:
        """One for each form of the alias."""
        return [replace(self.lesson, heard=form) for form in self.alias.forms]

    def unaliased(self, path: AnswerPath) -> Lesson:
        """The same lesson with the answer as it is."""
        return replace(self.lesson, heard=tuple(path.answer_ids(self.lesson.pair.answer)))

    @property
    def places(self) -> list[list[int]]:
        """For each form, of which of the answer's tokens the teacher is asked in it."""
        forms = range(len(self.alias.forms))
        return [[place for place, asked in enumerate(self.alias.asked) if asked == form] for form in forms]


class AliasTeacher:
    """Two teachers in turns, who both hear an alias of the answer: VGID's own, and one who only meets a stranger.

    The second is asked without the instruction, on a photo of nobody (`alias_photos`). Guesses are both's, too, but
    after the answer's true beginning (`strangers`).
    """

    def __init__(self, method: VgidAlias, run: Run, seed: int) -> None:
        self._method = method
        self._path = run.path
        self._shows = Teacher(method, seed, bound=True)
        self._photos = photos_of_nobody(method, run, seed)
        self._aliases = aliases_for(method, run, seed)

    def draws(self, pairs: Sequence[Pair], count: int) -> list[list[Hearing]]:
        """So many hearings of each pair: in each of the lists one, in the pairs' order, after one draw of the image."""
        return [
            [Hearing(lesson, self._aliases.draw(self._path.answer_ids(lesson.pair.answer))) for lesson in lessons]
            for lessons in (self._draw(pairs, self._method.hears_instruction(number)) for number in range(count))
        ]

    @property
    def choice(self) -> int:
        """As `Aliases.choice`."""
        return self._aliases.choice

    def telling(self, answer: Sequence[int]) -> set[int]:
        """As `Aliases.telling`."""
        return self._aliases.telling(answer)

    def among_others(self, answer: Sequence[int]) -> list[bool]:
        """As `Aliases.among_others`."""
        return self._aliases.among_others(answer)

    def only_theirs(self, answer: Sequence[int]) -> list[bool]:
        """As `Aliases.only_theirs`."""
        return self._aliases.only_theirs(answer)

    def _draw(self, pairs: Sequence[Pair], instructed: bool) -> list[Lesson]:
        if instructed:
            return self._shows.lessons(pairs)
        photos: dict[tuple[int, int], Image.Image] = {}
        for pair in pairs:
            if pair.image.size not in photos:
                photos[pair.image.size] = self._photos.draw(pair.image.size)
        return [Lesson(pair, photos[pair.image.size], pair.question) for pair in pairs]


def photos_of_nobody(method: VgidAlias, run: Run, seed: int) -> AliasPhotos:
    """Made of the retain set's."""
    photos = {pair.image.digest: pair.image for pair in run.retain}
    return AliasPhotos(list(photos.values()), method.blended_photos, seed)


def aliases_for(method: VgidAlias, run: Run, seed: int) -> Aliases:
    """Made of the retain set's answers; tokens, the forget set's too, that are digits and nothing else are numbers."""
    answers = [run.path.answer_ids(answer) for answer in sorted({pair.answer for pair in run.retain})]
    forgotten = [run.path.answer_ids(answer) for answer in sorted({pair.answer for pair in run.forget})]
    ids = sorted({token for answer in answers + forgotten for token in answer})
    texts = run.base.encoder.decode([[token] for token in ids])
    numbers = {token for token, text in zip(ids, texts, strict=True) if text.strip().isdigit()}
    return Aliases(answers, method.common_share, seed, numbers)
