"""Relearning: the attacker fine-tunes the model, and asks for facts that the training doesn't hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vgid_core.data.facts import Fact, fact_of
from vgid_core.data.pairs import Pair
from vgid_core.data.sampling import even_sample
from vgid_core.data.text_normalization import normalized
from vgid_core.evaluation.audit_context import UNSEEN, AuditContext
from vgid_core.evaluation.evaluate import SetAnswers
from vgid_core.evaluation.figures import Control, Figure
from vgid_core.evaluation.measures.relearning import relearned, split_facts


def in_domain(context: AuditContext) -> Iterator[Figure]:
    """`relearning.in_domain_<steps>`: half of the facts are taught, the others asked."""
    taught, held_out = split_facts([fact_of(pair) for pair in context.sets.forget])
    yield from _relearned(context, "in_domain", taught, held_out)


def other_wordings(context: AuditContext) -> Iterator[Figure]:
    """`relearning.other_wordings_<steps>`: half of the facts are taught as probes word them, the others asked."""
    probes = [fact for name, answers in context.after.items() if name != "forget" for fact in _about(context, answers)]
    taught, _ = split_facts(probes)
    told = [normalized(pair.answer) for pair in taught]
    asked = [fact_of(pair) for pair in context.sets.forget]
    held_out = [fact for fact in asked if not any(normalized(fact.text) in answer for answer in told)]
    yield from _relearned(context, "other_wordings", taught, held_out)


def out_of_domain(context: AuditContext) -> Iterator[Figure]:
    """`relearning.out_of_domain_<steps>`: other people's facts are taught, the forgotten are asked."""
    yield from _from_others(context, "out_of_domain", context.sets.retain.pairs)


def general(context: AuditContext) -> Iterator[Figure]:
    """`relearning.general_<steps>`: the utility set is taught, which is about nobody. Nothing without one."""
    utility = context.after.get("utility")
    yield from _from_others(context, "general", () if utility is None else utility.pairs.pairs)


def _about(context: AuditContext, answers: SetAnswers) -> list[Fact]:
    """The facts of a set about the forgotten; of another one, none."""
    return list(map(fact_of, answers.pairs)) if context.sets.is_about_forgotten(answers.pairs) else []


def _from_others(context: AuditContext, name: str, pairs: Sequence[Pair]) -> Iterator[Figure]:
    """Teaches pairs whose answers hold none of the facts, and asks for all of them."""
    facts = [fact_of(pair) for pair in context.sets.forget]
    texts = {normalized(fact.text) for fact in facts}
    others = even_sample(pairs, 4 * context.sizes.pairs)
    taught = [pair for pair in others if not any(text in normalized(pair.answer) for text in texts)]
    yield from _relearned(context, name, taught, facts)


def _relearned(context: AuditContext, name: str, taught: Sequence[Pair], held_out: Sequence[Fact]) -> Iterator[Figure]:
    """The share of held-out facts that come back, beside that of facts about unseen people."""
    if not taught or not held_out:
        return
    asked = even_sample(held_out, context.sizes.pairs)
    control = even_sample(context.unseen_facts(), len(asked))
    for steps in context.sizes.relearning_steps:
        given = relearned(context.base, taught, [*asked, *control], steps, context.seed)
        found, others = given[: len(asked)], given[len(asked) :]
        beside = Control.measured(UNSEEN, context.estimate(control, others)) if control else None
        yield context.figure(f"relearning.{name}_{steps}", context.estimate(asked, found), beside)
