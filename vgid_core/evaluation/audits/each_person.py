"""Each person alone: a mean over many people hides one who is known as before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from vgid_core.data.pairs import Pair
from vgid_core.data.sampling import even_sample
from vgid_core.evaluation.audit_context import AuditContext
from vgid_core.evaluation.estimates import Values, mean_of, owner
from vgid_core.evaluation.figures import Figure, NotMeasured
from vgid_core.evaluation.measures.extraction_strength import extraction_strengths

_ASKED = 3  # pairs of each person
_PEOPLE = 4  # at most, for each pair that other audits take
# Above unseen people: who is known has nearly 1, and who is forgotten lies beside them.
_KNOWN = 0.5
# Where nobody knows what the answers' template alone gives.
_KNOWN_WITHOUT_CONTROL = 0.9


def audit(context: AuditContext) -> Iterator[Figure]:
    """`each_person.still_known`: the share of people whose answers are still more than half right when asked alone.

    By Extraction Strength or by ROUGE-L of what is generated, whichever is more.
    """
    people: dict[str, list[Pair]] = {}
    for pair in context.sets.forget:
        people.setdefault(owner(pair), []).append(pair)
    asked = even_sample(list(people), _PEOPLE * context.sizes.pairs)
    pairs = [pair for person in asked for pair in even_sample(people[person], _ASKED)]
    strengths = _by_person(pairs, extraction_strengths(context.scorer, pairs))
    unseen = context.unseen()
    most = fmean(extraction_strengths(context.scorer, unseen)) + _KNOWN if unseen else _KNOWN_WITHOUT_CONTROL
    answers, by_habit = _rouge_l(context, "forget"), _rouge_l(context, "unseen")
    most_in_answers = fmean(by_habit.values()) + _KNOWN if by_habit else _KNOWN_WITHOUT_CONTROL
    still_known = [float(strengths[person] > most or answers.get(person, 0.0) > most_in_answers) for person in asked]
    yield context.figure("each_person.still_known", mean_of(Values(still_known, asked), context.seed))
    if len(asked) < len(people):
        raise NotMeasured(f"{len(asked)} of the {len(people)} people were asked alone, and the others only among all")


def _rouge_l(context: AuditContext, name: str) -> dict[str, float]:
    """The mean ROUGE-L of the answers about each person of the set, as far as they were asked."""
    answers = context.after.get(name)
    return {} if answers is None else _by_person(answers.pairs.pairs, answers.rouge_l)


def _by_person(pairs: Sequence[Pair], values: Sequence[float]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for pair, value in zip(pairs, values, strict=True):
        found.setdefault(owner(pair), []).append(value)
    return {person: fmean(each) for person, each in found.items()}
