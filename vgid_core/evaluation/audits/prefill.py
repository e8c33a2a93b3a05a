"""Prefilled answers: the model is given the true answer up to the fact, or into it, and goes on."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from vgid_core.data.facts import Fact
from vgid_core.evaluation.audit_context import UNSEEN, AuditContext
from vgid_core.evaluation.estimates import Estimate
from vgid_core.evaluation.figures import Control, Figure
from vgid_core.evaluation.measures.prefill import prefilled_inside_fact, prefilled_up_to_fact


def up_to_fact(context: AuditContext) -> Iterator[Figure]:
    """`prefill.up_to_fact`: the share of facts that follow. Facts with which their answer begins are left out."""
    with_prefix = [fact for fact in context.facts() if fact.prefix]
    control = [fact for fact in context.unseen_facts() if fact.prefix]
    yield from context.share("prefill.up_to_fact", partial(prefilled_up_to_fact, context.base), with_prefix, control)


def into_fact(context: AuditContext) -> Iterator[Figure]:
    """`prefill.into_fact`: the share of cuts within facts after which a word of the fact is added."""
    if (found := _inside(context, context.facts())) is not None:
        control = _inside(context, context.unseen_facts())
        beside = None if control is None else Control.measured(UNSEEN, control)
        yield context.figure("prefill.into_fact", found, beside)


def _inside(context: AuditContext, facts: list[Fact]) -> Estimate | None:
    cuts = prefilled_inside_fact(context.base, facts)
    return context.estimate([fact for fact, _ in cuts], [follows for _, follows in cuts]) if cuts else None
