"""What is left after unlearning, asked by somebody who wants it back: every attack that the data allows for.

Every figure is to be read beside the same figure of a model that never saw the data (the retain-only twin), where there
is one: a model that gives *less* than the twin has been made to flinch, which can be told apart, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from vgid_core.config import AttackPlan
from vgid_core.data.facts import Fact
from vgid_core.data.pairs import Pair, PairSet
from vgid_core.data.sampling import even_sample
from vgid_core.evaluation.begun_answers import inside_recovery, prefill_recovery
from vgid_core.evaluation.membership import membership_aucs
from vgid_core.evaluation.relearning import Relearning, relearned, taught_and_asked
from vgid_core.models.base import BaseModel
from vgid_core.scoring.scorer import Scorer

Figures = dict[str, float]


def as_it_is(pair: Pair) -> Pair:
    """What is asked of a model that needs no context."""
    return pair


def attacked_on(
    base: BaseModel,
    scorer: Scorer,
    forget: PairSet,
    never_seen: PairSet | None,
    facts: Sequence[Fact],
    plan: AttackPlan,
    seed: int,
    view: Callable[[Pair], Pair] = as_it_is,
) -> Figures:
    """What the attacks get: `membership.<attack>` (AUC), `prefill` and `relearned` (shares of facts), `prefill_inside`
    (of places within them).

    An attack that the data doesn't allow for is left out. `view` is no defence against relearning: whoever trains the
    weights asks as they please.
    """
    figures: Figures = {}
    if never_seen is not None:
        members = forget.sample(plan.pairs)
        others = never_seen.sample(plan.pairs)
        aucs = membership_aucs(base, scorer, list(map(view, members)), list(map(view, others)))
        figures |= {f"membership.{name}": value for name, value in aucs.items()}
    begun = [fact for fact in facts if fact.prefix]
    if begun:
        asked = [replace(fact, pair=view(fact.pair)) for fact in even_sample(begun, plan.pairs)]
        figures["prefill"] = prefill_recovery(base, asked)
    asked = [replace(fact, pair=view(fact.pair)) for fact in even_sample(facts, plan.pairs)]
    if (inside := inside_recovery(base, asked)) is not None:
        figures["prefill_inside"] = inside
    taught, open_facts = taught_and_asked(facts)
    if taught and open_facts:
        attack = Relearning(
            steps=plan.relearning_steps,
            batch_size=plan.relearning_batch_size,
            learning_rate=plan.relearning_rate,
            rank=plan.relearning_rank,
            seed=seed,
        )
        figures["relearned"] = relearned(base, taught, even_sample(open_facts, plan.pairs), attack)
    return figures
