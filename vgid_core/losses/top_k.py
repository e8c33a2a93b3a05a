"""Distributions over a vocabulary, stored as their k likeliest tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_MIN_PROBABILITY = 1e-30  # float32 can still sum and scale it
TOP_K = 2048  # tokens: 0.6 MB for an answer of 36 tokens


@dataclass(frozen=True)
class TopKDistribution:
    """The likeliest tokens of one distribution a position, renormalised to sum to one.

    ids, probabilities: [positions, k], int32 and float32. tail_mass: the largest probability that was dropped at any
    position. Each distribution differs from the full one by at most twice that in L1; so does the gradient of a KL from
    it with respect to the student's logits. Zero if the vocabulary has at most k tokens.
    """

    ids: Tensor
    probabilities: Tensor
    tail_mass: float = 0.0

    @classmethod
    def from_probabilities(cls, probabilities: Tensor, k: int = TOP_K) -> TopKDistribution:
        """Truncates full distributions [positions, vocabulary] to their k likeliest tokens, on the host."""
        vocabulary = probabilities.shape[-1]
        if vocabulary <= k:
            ids = torch.arange(vocabulary, dtype=torch.int32).expand(probabilities.shape)
            return cls(ids, probabilities.float().cpu())
        kept, ids = probabilities.float().topk(k, dim=-1)
        mass = kept.sum(-1, keepdim=True)
        return cls(ids.int().cpu(), (kept / mass).cpu(), max(0.0, 1 - float(mass.min())))

    @classmethod
    def concat(cls, parts: Sequence[TopKDistribution]) -> TopKDistribution:
        """Concatenates the positions of all parts."""
        return cls(
            torch.cat([part.ids for part in parts]),
            torch.cat([part.probabilities for part in parts]),
            max(part.tail_mass for part in parts),
        )

    def split(self, lengths: Sequence[int]) -> list[TopKDistribution]:
        """Splits the positions into consecutive parts of these lengths."""
        parts = zip(torch.split(self.ids, list(lengths)), torch.split(self.probabilities, list(lengths)), strict=True)
        # Clones: a view would keep the memory of all parts alive.
        return [TopKDistribution(ids.clone(), probabilities.clone(), self.tail_mass) for ids, probabilities in parts]

    def with_token_prob(self, tokens: Tensor, logs: Tensor) -> TopKDistribution:
        """Gives one token a position a new log-probability; the other tokens keep their proportions.

        tokens, logs: [positions], in nats; logs above zero, by rounding, count as zero. A token that isn't among the k
        replaces the least likely one. If all other tokens had probability zero, they share evenly. The new tail_mass is
        an upper bound: the dropped tokens' share of the rest is largest where the kept others have little mass.
        """
        ids, is_token = self.ids.clone(), self.ids == tokens[:, None]
        missing = ~is_token.any(-1)
        ids[missing, -1] = tokens[missing].int()
        is_token[missing, -1] = True
        probability = logs.exp().clamp(max=1.0)[:, None]
        others = self.probabilities.clamp(min=_MIN_PROBABILITY).masked_fill(is_token, 0.0)
        mass = others.sum(-1, keepdim=True)
        dropped = self.tail_mass  # of the full distribution; the kept tokens have been scaled up since
        tail_mass = float(((1 - probability) * dropped / (mass * (1 - dropped) + dropped)).max()) if dropped else 0.0
        return TopKDistribution(ids, torch.where(is_token, probability, others * ((1 - probability) / mass)), tail_mass)

    def to(self, device: torch.device) -> TopKDistribution:
        """The same on `device`."""
        return TopKDistribution(self.ids.to(device), self.probabilities.to(device), self.tail_mass)

    def dense(self, vocabulary: int, part: slice = slice(None)) -> Tensor:
        """The distributions of a slice of positions over the whole vocabulary: [positions, vocabulary], float32."""
        ids, probabilities = self.ids[part].long(), self.probabilities[part]
        return probabilities.new_zeros(len(ids), vocabulary).scatter_(-1, ids, probabilities)
