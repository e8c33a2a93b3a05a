"""Distributions over a vocabulary, each kept as its likeliest tokens alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_NEXT_TO_NOTHING = 1e-30  # a probability that float32 still holds, summed and scaled
MOST_KEPT = 2048  # tokens: 0.6 MB for an answer of 36 tokens


@dataclass(frozen=True)
class TopKDistribution:
    """Tokens and their probabilities, which sum to one: [positions, kept], int32 and float32.

    tail_mass: the largest probability that was dropped at any position, by which the rest was scaled up. So each is
    within twice of it (in L1) of the whole distribution, and so is the gradient of a KL from it with respect to the
    student's logits. Zero where the vocabulary has no more tokens than are kept.
    """

    ids: Tensor
    probabilities: Tensor
    tail_mass: float = 0.0

    @classmethod
    def of(cls, probabilities: Tensor, most: int = MOST_KEPT) -> TopKDistribution:
        """The likeliest of whole distributions, [positions, vocabulary], on the host."""
        vocabulary = probabilities.shape[-1]
        if vocabulary <= most:
            ids = torch.arange(vocabulary, dtype=torch.int32).expand(probabilities.shape)
            return cls(ids, probabilities.float().cpu())
        kept, ids = probabilities.float().topk(most, dim=-1)
        mass = kept.sum(-1, keepdim=True)
        return cls(ids.int().cpu(), (kept / mass).cpu(), max(0.0, 1 - float(mass.min())))

    @classmethod
    def joined(cls, parts: Sequence[TopKDistribution]) -> TopKDistribution:
        """Those of all parts, one after the other."""
        return cls(
            torch.cat([part.ids for part in parts]),
            torch.cat([part.probabilities for part in parts]),
            max(part.tail_mass for part in parts),
        )

    def split(self, lengths: Sequence[int]) -> list[TopKDistribution]:
        """Parts of so many positions each."""
        parts = zip(torch.split(self.ids, list(lengths)), torch.split(self.probabilities, list(lengths)), strict=True)
        # A part holds on to nothing but its own numbers.
        return [TopKDistribution(ids.clone(), probabilities.clone(), self.tail_mass) for ids, probabilities in parts]

    def with_token_prob(self, tokens: Tensor, logs: Tensor) -> TopKDistribution:
        """The same, in which these tokens have these log-probabilities, and all others share what is left as before.

        tokens, logs: [positions], in nats; what rounding left above zero counts as zero. A token that wasn't kept takes
        the place of the least likely one. Where no other token had any probability, they share evenly. What was left
        out counts for more where the others were few, so `tail_mass` is what it may be at most.
        """
        ids, stands = self.ids.clone(), self.ids == tokens[:, None]
        lacking = ~stands.any(-1)
        ids[lacking, -1] = tokens[lacking].int()
        stands[lacking, -1] = True
        share = logs.exp().clamp(max=1.0)[:, None]
        others = self.probabilities.clamp(min=_NEXT_TO_NOTHING).masked_fill(stands, 0.0)
        mass = others.sum(-1, keepdim=True)
        dropped = self.tail_mass  # of the whole, at most; what was kept has been scaled up since
        tail_mass = float(((1 - share) * dropped / (mass * (1 - dropped) + dropped)).max()) if dropped else 0.0
        return TopKDistribution(ids, torch.where(stands, share, others * ((1 - share) / mass)), tail_mass)

    def to(self, device: torch.device) -> TopKDistribution:
        """The same on `device`."""
        return TopKDistribution(self.ids.to(device), self.probabilities.to(device), self.tail_mass)

    def whole(self, vocabulary: int, part: slice = slice(None)) -> Tensor:
        """Whole distributions of these positions: [positions, vocabulary], float32."""
        ids, probabilities = self.ids[part].long(), self.probabilities[part]
        return probabilities.new_zeros(len(ids), vocabulary).scatter_(-1, ids, probabilities)
