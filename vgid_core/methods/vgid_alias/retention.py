"""What is to stay: the base's answers, and on strangers, of whom answers show too little, the student's states.

Of a stranger the base says that it doesn't know them. A student that has learnt to hold back more says the same, so KL
hardly moves while the states do. People whom the model knows, but no set holds, then lose what no answer about a
stranger shows. The states show it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from vgid_core.data.examples import DistillExample
from vgid_core.methods.base import MethodContext
from vgid_core.methods.loss_terms import LossPart, LossTerm
from vgid_core.methods.terms import prefetch_retain

# Beside the KL's weight. More of it keeps bystanders better, and the forgotten names easier to guess.
_STATES_WEIGHT = 2.0


def retention(context: MethodContext, examples: Sequence[DistillExample], strangers: Collection[str]) -> LossTerm:
    """beta * (KL(p_base || p_theta) + 2 * s * |h_theta - h_0|^2 / |h_0|^2), of the last states h.

    s is 1 on a stranger's photo, at all of an answer's tokens but the first, else 0. At the first token the student is
    to learn to take the forgotten for strangers. It learns that less well if its states on strangers are held there.
    strangers: the digests of their photos.
    """
    prefetch_retain(context)
    scorer = context.scorer

    def counts(example: DistillExample) -> Tensor:
        places = torch.arange(len(scorer.answer_ids(example.pair.answer)))
        return (places > 0) & (example.pair.image.digest in strangers)

    def values(some: Sequence[DistillExample]) -> list[Tensor]:
        divergence, moved = scorer.divergence_and_movement(some)
        return [divergence, moved * torch.cat([counts(example) for example in some]).to(moved.device)]

    beta = context.training.retain_weight
    return LossTerm("retain", examples, [LossPart(beta), LossPart(beta * _STATES_WEIGHT)], values)
