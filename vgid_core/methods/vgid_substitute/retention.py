"""What is to stay: what the base says, and on unseen faces the student's last states, too.

A student that learns to hold back before the forgotten also holds back before people whom it knows and no set holds.
On unseen faces, where the base holds back itself, this hardly changes what is said, so KL stays small. It does
change the states, so these are held. An answer's first token is left out: there the student is to learn to take the
forgotten for unseen faces, and it learns that less well if its states on unseen faces are held.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from vgid_core.data.examples import DistillExample
from vgid_core.methods.base import MethodContext
from vgid_core.methods.loss_terms import LossPart, LossTerm
from vgid_core.methods.terms import prefetch_retain

# Beside the KL's weight. More of it keeps neighbours better, and the forgotten names easier to guess.
_STATES_WEIGHT = 2.0


def retention(context: MethodContext, examples: Sequence[DistillExample], unseen_faces: Collection[str]) -> LossTerm:
    """beta * (KL(p_base || p_theta) + 2 * s * |h_theta - h_0|^2 / |h_0|^2), of the last states h.

    s is 1 on an unseen face, at the second and later tokens of the answer that is read there, else 0.
    unseen_faces: the digests of unseen faces.
    """
    prefetch_retain(context)
    scorer = context.scorer

    def counts(example: DistillExample) -> Tensor:
        indices = torch.arange(len(scorer.answer_ids(example.pair.answer)))
        return (indices > 0) & (example.pair.image.digest in unseen_faces)

    def values(some: Sequence[DistillExample]) -> list[Tensor]:
        divergence, moved = scorer.divergence_and_movement(some)
        return [divergence, moved * torch.cat([counts(example) for example in some]).to(moved.device)]

    beta = context.training.retain_weight
    return LossTerm("retain", examples, [LossPart(beta), LossPart(beta * _STATES_WEIGHT)], values)
