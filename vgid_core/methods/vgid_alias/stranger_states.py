"""Keeps the student's states on strangers' photos, where answers alone would show too little.

Of a stranger the base says that it doesn't know them. A student that has learnt to hold back more says the same, so KL
hardly moves while the states do. People whom the model knows, but no set holds, then lose what no answer about a
stranger shows. The states show it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vgid_core.data.examples import DistillExample, pairs_of
from vgid_core.losses.token_losses import mean_square
from vgid_core.methods.base import MethodContext
from vgid_core.methods.loss_terms import LossTerm

# Beside the KL's weight. More of it keeps bystanders better, and the forgotten names easier to guess.
_WEIGHT = 0.5


def keep_stranger_states(context: MethodContext, examples: Sequence[DistillExample]) -> LossTerm:
    """beta * 0.5 * |h_theta - h_0|^2 / |h_0|^2, of the last layer's states h, on examples about strangers.

    The states that predict an answer's first token are left out: there the forgotten are to look like strangers, and a
    student held to the one thing learns the other less well.
    """
    scorer = context.scorer
    layer = len(context.base.model.get_decoder().layers) - 1

    def values(some: Sequence[DistillExample]) -> Tensor:
        pairs = pairs_of(some)
        kept = scorer.teacher_states(some, layer).float()
        moved = mean_square(scorer.student_states(pairs, layer), kept) / kept.square().mean(dim=-1)
        behind_the_first = [torch.arange(len(scorer.answer_ids(pair.answer))) > 0 for pair in pairs]
        return moved * torch.cat(behind_the_first).to(moved.device)

    return LossTerm.of("retain", examples, context.training.retain_weight * _WEIGHT, values)
