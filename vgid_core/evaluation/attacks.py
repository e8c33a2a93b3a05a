"""Attacks that try to get forgotten facts back: membership, prefill, extraction, candidate ranking, relearning.

Compare each figure with that of the reference model, a model that never saw the forget set. Above the reference model,
something is left. Below it, the model avoids the answer, which an attacker can notice, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from statistics import fmean

from vgid_core.config import AttackPlan
from vgid_core.data.facts import Fact
from vgid_core.data.pairs import Pair, PairSet
from vgid_core.data.sampling import even_sample
from vgid_core.evaluation.measures.candidate_ranking import (
    by_first_token,
    by_logit_lens,
    by_whole_answer,
    rank_among_answers,
)
from vgid_core.evaluation.measures.extraction_strength import extraction_strengths
from vgid_core.evaluation.measures.membership import membership_aucs
from vgid_core.evaluation.measures.prefill import prefilled_inside_fact, prefilled_up_to_fact
from vgid_core.evaluation.measures.relearning import relearned, split_facts
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
    unseen: PairSet | None,
    facts: Sequence[Fact],
    plan: AttackPlan,
    seed: int,
    transform: Callable[[Pair], Pair] = unchanged,
) -> Figures:
    """Runs all attacks that the data allows, on at most `plan.pairs` pairs each. Every figure is in [0, 1].

    `membership.<attack>` are AUCs and need `unseen`. `prefill` and `relearned` are shares of facts that come back,
    `prefill_inside` is one of token positions within facts. `extraction_strength` is the mean over the facts' answers
    and the forget set's. `ranking.<score>.<place>` (see `rank_among_answers`) needs `unseen` with the facts'
    questions; its scores are `whole_answer`, `first_token`, and `lens`: the first token as the middle layer has it.

    transform: applied to each pair that the model reads, for a defence by prompt. Relearning ignores it, since who
    trains the weights also chooses the prompt.
    """
    members = [transform(pair) for pair in forget.sample(plan.pairs)]
    control = [transform(pair) for pair in unseen.sample(plan.pairs)] if unseen else []
    figures: Figures = {}
    if control:
        aucs = membership_aucs(base, scorer, members, control)
        figures |= {f"membership.{name}": value for name, value in aucs.items()}
    with_prefix = [fact for fact in facts if fact.prefix]
    if with_prefix:
        prefilled = [replace(fact, pair=transform(fact.pair)) for fact in even_sample(with_prefix, plan.pairs)]
        figures["prefill"] = fmean(prefilled_up_to_fact(base, prefilled))
    sample = [replace(fact, pair=transform(fact.pair)) for fact in even_sample(facts, plan.pairs)]
    if inside := prefilled_inside_fact(base, sample):
        figures["prefill_inside"] = fmean(follows for _, follows in inside)
    answers = [*(fact.pair for fact in sample), *members]
    figures["extraction_strength"] = fmean(extraction_strengths(scorer, answers))
    figures |= _rankings(base, scorer, sample, control)
    taught, held_out = split_facts(facts)
    if taught and held_out:
        asked = even_sample(held_out, plan.pairs)
        figures["relearned"] = fmean(relearned(base, taught, asked, plan.relearning_steps, seed))
    return figures


def _rankings(base: BaseModel, scorer: Scorer, facts: Sequence[Fact], unseen: Sequence[Pair]) -> Figures:
    """The places of the true answers by each score."""
    scores = {"whole_answer": by_whole_answer(scorer), "first_token": by_first_token(scorer)}
    decoder = base.model.get_decoder()
    if hasattr(decoder, "norm"):  # a decoder without one of this name has no lens
        scores["lens"] = by_logit_lens(base, scorer, layer=(len(decoder.layers) - 1) // 2)
    figures: Figures = {}
    for name, score in scores.items():
        if (ranking := rank_among_answers(score, facts, unseen)) is not None:
            figures |= {f"ranking.{name}.{place}": share for place, share in asdict(ranking).items()}
    return figures
