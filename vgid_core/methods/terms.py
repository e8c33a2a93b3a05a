"""Terms that several methods share. The weights are those of the roles: alpha for forget, beta or lambda for retain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from vgid_core.data import Pair
from vgid_core.lessons import Lesson, Term, Update
from vgid_core.methods.base import Run

if TYPE_CHECKING:
    from torch import Tensor


def unlearned(run: Run, forget: Sequence[Pair]) -> Term:
    """-alpha * L_f: the cross-entropy of the forget batch's answer tokens, which this climbs."""

    def values(some: Sequence[Lesson]) -> Tensor:
        return run.path.student_log_probability(pairs_of(some))

    return Term.of("forget", lessons_of(forget), run.training.forget_weight, values)


def learned(run: Run, forget: Sequence[Pair]) -> Term:
    """alpha * L: the cross-entropy of answers that stand in the place of the forget batch's own."""

    return Term.of("forget", lessons_of(forget), run.training.forget_weight, cross_entropy(run))


def rehearsed(run: Run, retain: Sequence[Pair]) -> Term:
    """beta * L_r: the cross-entropy of the retain batch's answer tokens."""

    return Term.of("retain", lessons_of(retain), run.training.retain_weight, cross_entropy(run))


def kept(run: Run, retain: Sequence[Pair]) -> Term:
    """beta * KL(p_base || p_theta) on a retain batch."""
    return Term.of("retain", kept_lessons(run, retain), run.training.retain_weight, run.path.divergence)


def kept_lessons(run: Run, retain: Sequence[Pair]) -> list[Lesson]:
    """Of a retain batch, to whose pairs the base's own answers are the targets: those of coming steps are kept, too."""
    keep(run, run.coming)
    run.coming.clear()
    return lessons_of(retain)


def keep(run: Run, pairs: Sequence[Pair]) -> None:
    """Has the path compute what the base says to pairs that are to be kept, as many together as memory is meant for."""
    at_once = run.training.teacher_batch_size
    for start in range(0, len(pairs), at_once):
        run.path.keep(lessons_of(pairs[start : start + at_once]))


def joint(run: Run, forget: Term, retain: Term) -> list[Update]:
    """One update on the sum of both; without the retain term where its weight is zero."""
    return [[forget, retain] if run.training.retain_weight > 0 else [forget]]


def cross_entropy(run: Run) -> Callable[[Sequence[Lesson]], Tensor]:
    """-log p_theta at every answer token of some lessons."""
    return lambda some: -run.path.student_log_probability(pairs_of(some))


def lessons_of(pairs: Sequence[Pair]) -> list[Lesson]:
    """Teacher and student both on the pairs themselves."""
    return [Lesson.retain(pair) for pair in pairs]


def pairs_of(lessons: Sequence[Lesson]) -> list[Pair]:
    """What the student answers."""
    return [lesson.pair for lesson in lessons]
