"""Checks again whoever was forgotten before: each by their replay set alone, and all replay sets together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from vgid_core.config import UnlearnConfig, VerdictTargets
from vgid_core.data.pairs import Pair, PairSet
from vgid_core.data.replay_checks import ReplayChecks
from vgid_core.evaluation.audit_context import AuditContext
from vgid_core.evaluation.audits import extraction, generated, membership, misattributed, prefill, ranking
from vgid_core.evaluation.estimates import Values, mean_of
from vgid_core.evaluation.evaluate import answer_sets
from vgid_core.evaluation.figures import Figure
from vgid_core.evaluation.levels import Audit
from vgid_core.evaluation.verdict import judge

REPLAY_SETS = "replay_sets"
_NEW = None  # the label of the replay set that is to be kept
# A replay set is of one request, most often of one person: too little to say where names stand, or what likelihoods
# tell. Replay sets of many together do: the mean place of six names at random lies within the default target in 997 of
# 1000 draws.
_LEAST_PEOPLE = 6
_OF_EACH: tuple[Audit, ...] = (generated.audit, extraction.audit, prefill.up_to_fact)
BY_MANY = "candidate ranking and membership of those forgotten before"
# Of one person, a few answers with a wrong name say little: a reference model's do, too.
_TOGETHER: tuple[Audit, ...] = (*_OF_EACH, misattributed.audit)
_OF_ALL: tuple[Audit, ...] = (*_TOGETHER, ranking.first_token, membership.by_likelihood)


@dataclass(frozen=True)
class Rechecks:
    """What was found of the replay sets. held: by replay set, whether its people are still forgotten.

    figures: those of all replay sets together that the request's evidence judges, and `earlier.known_again`: the share
    of them whose people are known again. new_held: whether the people of the replay set that is to be kept are
    forgotten by it; None without one. not_made: why audits weren't made, by audit.
    """

    held: Mapping[str, bool]
    figures: Sequence[Figure] = ()
    new_held: bool | None = None
    not_made: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ReplaySets:
    """The replay sets of a run, and what one of its requests has to do with them."""

    all: Mapping[str, PairSet] = field(default_factory=dict, repr=False)
    checks: ReplayChecks = field(default_factory=ReplayChecks)
    request: str = ""

    def recheck(self, context: AuditContext, config: UnlearnConfig, shared: Rechecks | None = None) -> Rechecks:
        """Audits each replay set, the new one, and all that the request is judged by together.

        context: that of the model's other audits, whose controls are used. shared: what was found for another request
        of the run; each replay set is audited once.
        """
        own = self.checks.own_of(self.all, self.request)
        union = [pair for replay_set in own.values() for pair in replay_set]
        people = len({pair.person for pair in union if pair.person is not None})
        audits = _OF_ALL if people >= _LEAST_PEOPLE else _TOGETHER
        together = _figures(context, union, audits, config) if union else []
        earlier = self.all if shared is None else {}
        asked = dict[str | None, PairSet](earlier.items())
        if self.request in self.checks.new:
            asked[_NEW] = self.checks.new[self.request]
        found = _held(context, asked, config, self.checks.targets or config.verdict, together)
        new_held = found.pop(_NEW, None)
        held = shared.held if shared is not None else {str(label): holds for label, holds in found.items()}
        if not own:
            return Rechecks(held, (), new_held)
        again = mean_of(Values([float(not held[label]) for label in own], list(own)), context.seed)
        reason = f"replay sets that name {_LEAST_PEOPLE} people are needed, there are {people}"
        not_made = {} if people >= _LEAST_PEOPLE else {BY_MANY: reason}
        return Rechecks(held, (*together, Figure("earlier.known_again", REPLAY_SETS, again)), new_held, not_made)

    def known_again(self, found: Rechecks) -> bool:
        """Whether anybody of the replay sets that must hold besides is known again."""
        return any(not found.held.get(label, True) for label in self.checks.required)


def _held(
    context: AuditContext,
    asked: Mapping[str | None, PairSet],
    config: UnlearnConfig,
    targets: VerdictTargets,
    together: Sequence[Figure],
) -> dict[str | None, bool]:
    """By replay set, whether all targets hold of it.

    together: figures of other pairs, for their control: it is the same for everybody, so it isn't measured for each.
    """
    alone = replace(context, sets=replace(context.sets, unseen=None))
    controls = {figure.name: figure.control for figure in together}
    held = {}
    for label, replay_set in asked.items():
        own = _figures(alone if controls else context, replay_set.pairs, _OF_EACH, config)
        controls = controls or {figure.name: figure.control for figure in own}
        judged = judge([replace(each, control=controls.get(each.name)) for each in own], targets)
        held[label] = not judged.missed
    return held


def _figures(
    context: AuditContext, pairs: Sequence[Pair], audits: Sequence[Audit], config: UnlearnConfig
) -> list[Figure]:
    """The audits' figures of these pairs."""
    items = PairSet(REPLAY_SETS, tuple(pairs))
    answers = answer_sets(context.base, context.scorer, [items], config.evaluation)
    others = {name: each for name, each in context.after.items() if name == "unseen"}
    asked = replace(
        context,
        sets=replace(context.sets, forget=items),
        after={**{each.pairs.name: each for each in answers}, **others},
        before={},
        found_before={},
    )
    return [replace(figure, of=items.name) for audit in audits for figure in audit(asked)]
