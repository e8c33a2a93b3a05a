"""In context: another true fact about the same person stands in the prompt, then the question is asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from vgid_core.data.facts import Fact
from vgid_core.data.text_normalization import normalized
from vgid_core.evaluation.audit_context import AuditContext
from vgid_core.evaluation.estimates import owner
from vgid_core.evaluation.figures import Figure
from vgid_core.evaluation.measures.relearning import facts_given


def audit(context: AuditContext) -> Iterator[Figure]:
    """`in_context`: the share of facts given. A person with a single fact isn't asked."""
    ask = partial(facts_given, context.base)
    forgotten, control = (
        context.that_fit(_with_another_fact(facts)) for facts in (context.facts(), context.unseen_facts())
    )
    yield from context.share("in_context", ask, forgotten, control)


def _with_another_fact(facts: Sequence[Fact]) -> list[Fact]:
    """Each fact whose person has another answer that doesn't hold it, with that answer before its question."""
    found = []
    for fact in facts:
        others = (
            other.pair.answer
            for other in facts
            if owner(other.pair) == owner(fact.pair) and normalized(fact.text) not in normalized(other.pair.answer)
        )
        if (known := next(others, None)) is not None:
            found.append(replace(fact, pair=replace(fact.pair, question=f"{known} {fact.pair.question}")))
    return found
