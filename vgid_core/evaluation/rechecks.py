"""Checks again whoever was forgotten before: each by their kit alone, and all kits together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from vgid_core.config import UnlearnConfig
from vgid_core.data.pairs import PairSet
from vgid_core.evaluation.audit_context import AuditContext
from vgid_core.evaluation.audits import begun, extraction, membership, misattributed, ranking, said
from vgid_core.evaluation.estimates import Values, mean_of
from vgid_core.evaluation.evaluate import answer_sets
from vgid_core.evaluation.figures import Figure
from vgid_core.evaluation.levels import Audit
from vgid_core.evaluation.verdict import judge

KITS = "kits"
# A kit is of one request, most often of one person: too little to say where names stand, or what likelihoods tell.
# Kits of many together do: the mean place of six names at random lies within the default target in 997 of 1000 draws.
_LEAST_PEOPLE = 6
_OF_EACH: tuple[Audit, ...] = (said.audit, extraction.audit, begun.up_to_fact)
BY_MANY = "candidate ranking and membership of those forgotten before"
# Of one person, a few answers with a wrong name say little: a twin's do, too.
_TOGETHER: tuple[Audit, ...] = (*_OF_EACH, misattributed.audit)
_OF_ALL: tuple[Audit, ...] = (*_TOGETHER, ranking.first_token, membership.by_likelihood)


@dataclass(frozen=True)
class Rechecks:
    """What was found of the kits. held: by kit, whether its people are still forgotten.

    figures: those of all kits together, and `earlier.known_again`: the share of kits whose people are known again.
    not_made: why audits weren't made, by audit.
    """

    held: Mapping[str, bool]
    figures: Sequence[Figure]
    not_made: Mapping[str, str] = field(default_factory=dict)


def recheck(context: AuditContext, kits: Mapping[str, PairSet], config: UnlearnConfig) -> Rechecks:
    """Audits each kit, and all kits together. context: that of the model's other audits, whose controls are used."""
    if not kits:
        return Rechecks({}, ())
    union = PairSet(KITS, tuple(pair for items in kits.values() for pair in items))
    people = len({pair.person for pair in union if pair.person is not None})
    together = _figures(context, union, _OF_ALL if people >= _LEAST_PEOPLE else _TOGETHER, config)
    controls = {figure.name: figure.control for figure in together}
    # The control is the same for everybody, so it isn't measured for each.
    alone = replace(context, sets=replace(context.sets, never_seen=None))
    held = {}
    for label, items in kits.items():
        own = _figures(alone, PairSet(KITS, items.pairs), _OF_EACH, config)
        judged = judge([replace(each, control=controls.get(each.name)) for each in own], config.verdict)
        held[label] = not judged.missed
    again = mean_of(Values([float(not each) for each in held.values()], list(kits)), context.seed)
    reason = f"kits that name {_LEAST_PEOPLE} people are needed, there are {people}"
    not_made = {} if people >= _LEAST_PEOPLE else {BY_MANY: reason}
    return Rechecks(held, (*together, Figure("earlier.known_again", KITS, again)), not_made)


def _figures(context: AuditContext, items: PairSet, audits: Sequence[Audit], config: UnlearnConfig) -> list[Figure]:
    """The audits' figures of these pairs."""
    answers = answer_sets(context.base, context.scorer, [items], config.evaluation)
    others = {name: each for name, each in context.after.items() if name == "never_seen"}
    asked = replace(
        context,
        sets=replace(context.sets, forget=items),
        after={**{each.pairs.name: each for each in answers}, **others},
        before={},
        found_before={},
    )
    return [replace(figure, of=items.name) for audit in audits for figure in audit(asked)]
