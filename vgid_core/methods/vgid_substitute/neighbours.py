"""Retain examples about people whom no set holds, so that the forgetting ends where the forgotten person ends.

A student that learns to hold back on some faces also holds back on faces that it is shown nothing about. Three kinds of
photos, none of which needs a label, teach it where to stop: a retain photo with a share of a forgotten person's (a
boundary photo), two retain photos in one, and unseen faces. What the base says of each is to stay. Unlabelled photos,
where an operator has registered any, count as retain photos whose answers are the base's own.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Iterator, Sequence

import torch

from vgid_core.config.methods import VgidSubstitute
from vgid_core.data.examples import DistillExample, same_for_both
from vgid_core.data.pairs import EncodedImage, Pair
from vgid_core.methods.base import MethodContext
from vgid_core.methods.terms import precompute
from vgid_core.methods.vgid_substitute.base_answers import base_answers, without_what_identifies
from vgid_core.methods.vgid_substitute.photos import mixed
from vgid_core.methods.vgid_substitute.substitutes import Substitutes

log = logging.getLogger(__name__)

_STEPS_AHEAD = 8  # whose examples are made together
_QUESTIONS = 4  # on one photo, which share its prefix
_BOUNDARY_PART, _TWO_IN_ONE_PART = 3, 1  # of six; the rest are unseen faces
_PARTS = 6
_FORGOTTEN_SHARE = (0.1, 0.6)  # of a boundary photo
_OTHER_SHARE = (0.3, 0.5)  # of the second of two retain photos
# A pair on a boundary photo is taken if the base finds each token of its answer at least this many times as likely as
# on the retain photo. Else the base sees the forgotten person, and what it says would teach the student the name again.
_LEAST_LIKELY = math.log(0.3)
_UNLABELLED_SHARE = 0.5  # of what else would be unseen faces
_MOST_UNLABELLED = 256  # photos, each of which costs answers of the base
_MOST_TRIES = 10  # drawn for each boundary example that is wanted

Group = list[Pair]  # pairs on one photo


class NeighbourRetain:
    """Makes each step's examples, those of a few steps together. Mixed photos are new each time, others come again."""

    def __init__(
        self,
        settings: VgidSubstitute,
        context: MethodContext,
        substitutes: Substitutes,
        unseen_faces: Sequence[EncodedImage],
    ) -> None:
        self._a_step = settings.neighbour_pairs
        self._context = context
        self._unseen_faces = unseen_faces
        self._keep = {photo.digest for photo in [*unseen_faces, *context.unlabelled]}  # what is cached of them
        self._rng = random.Random(f"{context.seed}/bystanders")
        unlabelled = _unlabelled(context, substitutes, self._rng) if self._a_step else []
        self._retain = _by_photo([*context.retain, *unlabelled])
        self._unlabelled = _by_photo(unlabelled)
        self._forget = list({pair.image.digest: pair.image for pair in context.forget}.values())
        self._left = context.steps
        self._made: list[DistillExample] = []
        self._next = 0

    def next(self) -> list[DistillExample]:
        """The next step's, as many as the settings say; fewer after too few boundary examples were found."""
        if not self._a_step:
            return []
        if self._next >= len(self._made):
            self._make_more()
        taken = self._made[self._next : self._next + self._a_step]
        self._next += self._a_step
        return taken

    def _make_more(self) -> None:
        """Replaces the examples, all of them used, by those of the next few steps."""
        self._context.scorer.release([example for example in self._made if example.pair.image.digest not in self._keep])
        steps = max(1, min(_STEPS_AHEAD, self._left))
        self._left -= steps
        size = steps * self._a_step
        boundary, two = size * _BOUNDARY_PART // _PARTS, size * _TWO_IN_ONE_PART // _PARTS
        groups = self._boundary(boundary)
        groups += _at_least(two, self._two_in_one)
        groups += _at_least(size - boundary - two, self._on_unseen_face)
        # A photo's pairs stay together: they share a prefix.
        shuffled = self._rng.sample(groups, len(groups))
        self._made = same_for_both(pair for group in shuffled for pair in group)[:size]
        precompute(self._context, self._made)
        self._next = 0

    def _boundary(self, count: int) -> list[Group]:
        """Groups on boundary photos that hold at least so many pairs, or as many as were found."""
        found: list[Group] = []
        held = tried = 0
        while held < count and tried < _MOST_TRIES * count:
            own = [self._questions() for _ in range(max(1, self._context.training.teacher_batch_size // _QUESTIONS))]
            drawn = [self._mixed(group, self._rng.choice(self._forget), _FORGOTTEN_SHARE) for group in own]
            kept = list(self._about_the_retained(own, drawn))
            self._context.scorer.release(same_for_both(_lacking(drawn, kept)))
            found += [group for group in kept if group]
            held += sum(map(len, kept))
            tried += sum(map(len, own))
        if held < count:
            log.warning("only %d of %d boundary examples were found: others may forget more than is asked", held, count)
        return found

    @torch.no_grad()
    def _about_the_retained(self, own: Sequence[Group], drawn: Sequence[Group]) -> Iterator[Group]:
        """Of each drawn group the pairs whose answer the base still finds likely: there it sees the retained person."""
        scorer = self._context.scorer
        pairs = [pair for group in own for pair in group]
        on_boundary = [pair for group in drawn for pair in group]
        before = scorer.teacher_log_probability(same_for_both(pairs))
        change = (scorer.teacher_log_probability(same_for_both(on_boundary)) - before).cpu()
        by_pair = iter(torch.split(change, [len(scorer.answer_ids(pair.answer)) for pair in pairs]))
        for group in drawn:
            yield [pair for pair in group if float(next(by_pair).min()) >= _LEAST_LIKELY]

    def _two_in_one(self) -> Group:
        group, other = self._rng.sample(self._retain, 2) if len(self._retain) > 1 else 2 * self._retain
        return self._mixed(self._some_of(group), other[0].image, _OTHER_SHARE)

    def _on_unseen_face(self) -> Group:
        """On an unseen face; where there are unlabelled photos, at equal odds on one of these instead."""
        if self._unlabelled and self._rng.random() < _UNLABELLED_SHARE:
            return self._rng.choice(self._unlabelled)
        photo = self._rng.choice(self._unseen_faces)
        return [Pair(photo, pair.question, pair.answer) for pair in self._questions()]

    def _questions(self) -> Group:
        """Pairs on one retain photo."""
        return self._some_of(self._rng.choice(self._retain))

    def _some_of(self, group: Group) -> Group:
        return self._rng.sample(group, min(_QUESTIONS, len(group)))

    def _mixed(self, group: Group, other: EncodedImage, shares: tuple[float, float]) -> Group:
        photo = mixed(group[0].image, other, self._rng.uniform(*shares))
        return [Pair(photo, pair.question, pair.answer) for pair in group]


def _unlabelled(context: MethodContext, substitutes: Substitutes, rng: random.Random) -> list[Pair]:
    """Retain questions on unlabelled photos with the base's own answers, but those that identify the forgotten."""
    questions = list(dict.fromkeys(pair.question for pair in context.retain))
    photos = rng.sample(context.unlabelled, min(_MOST_UNLABELLED, len(context.unlabelled)))
    asked = [(photo, text) for photo in photos for text in rng.sample(questions, min(_QUESTIONS, len(questions)))]
    return without_what_identifies(context, substitutes, base_answers(context, asked)) if asked else []


def _by_photo(pairs: Sequence[Pair]) -> list[Group]:
    groups: dict[str, Group] = {}
    for pair in pairs:
        groups.setdefault(pair.image.digest, []).append(pair)
    return list(groups.values())


def _lacking(drawn: Sequence[Group], kept: Sequence[Group]) -> Iterator[Pair]:
    """The pairs of groups of which nothing was kept."""
    return (pair for group, left in zip(drawn, kept, strict=True) if not left for pair in group)


def _at_least(count: int, draw: Callable[[], Group]) -> Iterator[Group]:
    """Groups that together hold so many pairs, or a few more."""
    held = 0
    while held < count:
        group = draw()
        held += len(group)
        yield group
