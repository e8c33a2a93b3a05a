"""Attacks that try to get forgotten facts back: membership, prefill, relearning.

Compare each figure with that of the retain-only twin, a model that never saw the forget set. Above the twin, something
is left. Below it, the model avoids the answer, which an attacker can notice, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from vgid_core.config import AttackPlan
from vgid_core.data.facts import Fact
from vgid_core.data.pairs import Pair, PairSet
from vgid_core.data.sampling import even_sample
from vgid_core.evaluation.membership import membership_aucs
from vgid_core.evaluation.prefill import prefill_inside_recovery, prefill_recovery
from vgid_core.evaluation.relearning import relearning_attack, split_facts
from vgid_core.models.base import BaseModel
from vgid_core.scoring.scorer import Scorer

Figures = dict[str, float]


def unchanged(pair: Pair) -> Pair:
    """The identity transform: the attack reads the pair as it is."""
    return pair


def run_attacks(
    base: BaseModel,
    scorer: Scorer,
    forget: PairSet,
    never_seen: PairSet | None,
    facts: Sequence[Fact],
    plan: AttackPlan,
    seed: int,
    transform: Callable[[Pair], Pair] = unchanged,
) -> Figures:
    """Runs all attacks that the data allows.

    Returns `membership.<attack>` (AUC, needs `never_seen`), `prefill` and `relearned` (shares of facts that come back),
    and `prefill_inside` (share of token positions within facts). transform: applied to each pair that the model reads,
    for a defence by prompt. Relearning ignores it, since who trains the weights also chooses the prompt.
    """
    figures: Figures = {}
    if never_seen is not None:
        members = forget.sample(plan.pairs)
        others = never_seen.sample(plan.pairs)
        aucs = membership_aucs(base, scorer, list(map(transform, members)), list(map(transform, others)))
        figures |= {f"membership.{name}": value for name, value in aucs.items()}
    with_prefix = [fact for fact in facts if fact.prefix]
    if with_prefix:
        sample = [replace(fact, pair=transform(fact.pair)) for fact in even_sample(with_prefix, plan.pairs)]
        figures["prefill"] = prefill_recovery(base, sample)
    sample = [replace(fact, pair=transform(fact.pair)) for fact in even_sample(facts, plan.pairs)]
    if (inside := prefill_inside_recovery(base, sample)) is not None:
        figures["prefill_inside"] = inside
    taught, held_out = split_facts(facts)
    if taught and held_out:
        figures["relearned"] = relearning_attack(base, taught, even_sample(held_out, plan.pairs), plan, seed)
    return figures
