"""Lessons for VGID's student: what the teacher is shown and asked in place of a forget item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image

from vgid_core.config.methods import VgidAlias
from vgid_core.data.examples import DistillExample
from vgid_core.data.pairs import Pair
from vgid_core.methods.base import MethodContext
from vgid_core.methods.vgid import Teacher
from vgid_core.methods.vgid_alias.alias_photos import AliasPhotos
from vgid_core.methods.vgid_alias.aliases import Alias, Aliases
from vgid_core.scoring.scorer import Scorer


@dataclass(frozen=True)
class Hearing:
    """What one teacher is shown and asked in a pair's place, and the alias that it hears of the pair's answer."""

    lesson: DistillExample
    alias: Alias

    @property
    def lessons(self) -> list[DistillExample]:
        """One for each form of the alias."""
        return [replace(self.lesson, teacher_prefix=form) for form in self.alias.forms]

    def unaliased(self, path: Scorer) -> DistillExample:
        """The same lesson with the answer as it is."""
        return replace(self.lesson, teacher_prefix=tuple(path.answer_ids(self.lesson.pair.answer)))

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

    def __init__(self, method: VgidAlias, run: MethodContext, seed: int) -> None:
        self._method = method
        self._path = run.scorer
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

    def _draw(self, pairs: Sequence[Pair], instructed: bool) -> list[DistillExample]:
        if instructed:
            return self._shows.examples(pairs)
        photos: dict[tuple[int, int], Image.Image] = {}
        for pair in pairs:
            if pair.image.size not in photos:
                photos[pair.image.size] = self._photos.draw(pair.image.size)
        return [DistillExample(pair, photos[pair.image.size], pair.question) for pair in pairs]


def photos_of_nobody(method: VgidAlias, run: MethodContext, seed: int) -> AliasPhotos:
    """Made of the retain set's."""
    photos = {pair.image.digest: pair.image for pair in run.retain}
    return AliasPhotos(list(photos.values()), method.blended_photos, seed)


def aliases_for(method: VgidAlias, run: MethodContext, seed: int) -> Aliases:
    """Made of the retain set's answers; tokens, the forget set's too, that are digits and nothing else are numbers."""
    answers = [run.scorer.answer_ids(answer) for answer in sorted({pair.answer for pair in run.retain})]
    forgotten = [run.scorer.answer_ids(answer) for answer in sorted({pair.answer for pair in run.forget})]
    ids = sorted({token for answer in answers + forgotten for token in answer})
    texts = run.base.encoder.decode([[token] for token in ids])
    numbers = {token for token, text in zip(ids, texts, strict=True) if text.strip().isdigit()}
    return Aliases(answers, method.common_share, seed, numbers)
