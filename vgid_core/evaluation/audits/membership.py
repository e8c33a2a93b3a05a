"""Membership: can the forgotten pairs be told from pairs that the model never saw? Both sides of chance count."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from vgid_core.data.pairs import Pair
from vgid_core.evaluation.audit_context import AuditContext
from vgid_core.evaluation.estimates import Values, auc_of
from vgid_core.evaluation.figures import Control, Figure
from vgid_core.evaluation.measures.membership import ALL_MEMBERSHIP_ATTACKS, gradient_scores, likelihood_scores

_CHANCE = Control.chance(0.5)


def by_likelihood(context: AuditContext) -> Iterator[Figure]:
    """`membership.<attack>`: AUC of each score that a forward pass gives. Nothing without unseen people."""
    yield from _aucs(context, lambda pairs: likelihood_scores(context.scorer, pairs))


def by_gradient(context: AuditContext) -> Iterator[Figure]:
    """`membership.grad_norm`: the same by the norm of the loss's gradient, a backward pass for each pair."""
    yield from _aucs(context, lambda pairs: {"grad_norm": gradient_scores(context.base, context.scorer, pairs)})


def _aucs(context: AuditContext, score: Callable[[Sequence[Pair]], dict[str, list[float]]]) -> Iterator[Figure]:
    members, others = context.members(), context.unseen()
    if not others:
        return
    inside, outside = score(members), score(others)
    for name in ALL_MEMBERSHIP_ATTACKS:
        if name in inside:
            found = auc_of(Values.about(members, inside[name]), Values.about(others, outside[name]), context.seed)
            yield context.figure(f"membership.{name}", found, _CHANCE)
