"""Membership attacks: can a forgotten pair be told from one that the model was never trained on?"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vgid_core.data.pairs import Pair
from vgid_core.losses.token_losses import token_log_probability
from vgid_core.models.base import BaseModel
from vgid_core.scoring.scorer import Scorer

MEMBERSHIP_ATTACKS = ("loss", "zlib", "min_k", "min_k_plus_plus", "grad_norm")
# Of this project's own: a mean over an answer can be right while its parts are not.
OWN_MEMBERSHIP_ATTACKS = ("first_token", "entropy")
ALL_MEMBERSHIP_ATTACKS = (*MEMBERSHIP_ATTACKS, *OWN_MEMBERSHIP_ATTACKS)
_LEAST_LIKELY_SHARE = 0.2  # k of Min-K%
_PAIRS_AT_ONCE = 32


def membership_scores(base: BaseModel, scorer: Scorer, pairs: Sequence[Pair]) -> dict[str, list[float]]:
    """For each attack a score a pair: the higher, the more the model seems to have been trained on the pair.

    loss (Yeom et al., arXiv 1709.01604): mean log-probability of the answer's tokens. zlib (Carlini et al.,
    arXiv 2012.07805): its sum over the answer's length in zlib-compressed bytes. min_k (arXiv 2310.16789): mean of the
    least likely 20 %. min_k_plus_plus (arXiv 2404.02936): the same, each token standardised by mean and deviation of
    the log-probabilities that the model expects there. grad_norm: less the norm of the loss's gradient with respect to
    the language tower's normalisation weights, which every family has and which cost no memory to speak of.
    first_token: log-probability of the answer's first token alone. entropy: less the mean entropy of what the model
    would say in each token's place, whatever the token is.
    """
    scores: dict[str, list[float]] = {name: [] for name in ALL_MEMBERSHIP_ATTACKS}
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        chunk = pairs[start : start + _PAIRS_AT_ONCE]
        ids = [torch.tensor(scorer.answer_ids(pair.answer)) for pair in chunk]
        with torch.no_grad():
            logits = scorer.student_logits(chunk).float()
            told = _token_scores(logits, torch.cat(ids).to(logits.device))
        by_pair = zip(*(torch.split(of_all, [len(row) for row in ids]) for of_all in told), strict=True)
        for pair, (tokens, expected, deviation) in zip(chunk, by_pair, strict=True):
            scores["loss"].append(float(tokens.mean()))
            scores["zlib"].append(float(tokens.sum()) / len(zlib.compress(pair.answer.encode())))
            scores["min_k"].append(_mean_of_least(tokens))
            scores["min_k_plus_plus"].append(_mean_of_least((tokens - expected) / deviation))
            scores["first_token"].append(float(tokens[0]))
            scores["entropy"].append(float(expected.mean()))
    with _norm_weights(base) as weights:
        for pair in pairs:
            scores["grad_norm"].append(-_gradient_norm(scorer, pair, weights))
    return scores


def auc(members: Sequence[float], others: Sequence[float]) -> float:
    """The chance that a member scores higher than another, ties counting half: 0.5 tells nothing, 1 tells all."""
    left, right = torch.tensor(members)[:, None], torch.tensor(others)[None]
    return float((left > right).float().mean() + 0.5 * (left == right).float().mean())


def membership_aucs(
    base: BaseModel, scorer: Scorer, members: Sequence[Pair], others: Sequence[Pair]
) -> dict[str, float]:
    """AUC of each attack: forgotten pairs against pairs of the same kind that the model was never trained on."""
    inside, outside = membership_scores(base, scorer, members), membership_scores(base, scorer, others)
    return {name: auc(inside[name], outside[name]) for name in inside}


def _token_scores(logits: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probability of each token, what the model expects there, and by how much that deviates; each [tokens]."""
    log_p = logits.log_softmax(-1)
    p = log_p.exp()
    mean = (p * log_p).sum(-1)
    deviation = ((p * log_p.square()).sum(-1) - mean.square()).clamp(min=1e-12).sqrt()
    likelihood = log_p.gather(-1, ids[:, None])[:, 0]
    return likelihood, mean, deviation


def _mean_of_least(values: Tensor) -> float:
    count = max(1, round(_LEAST_LIKELY_SHARE * len(values)))
    return float(values.topk(count, largest=False).values.mean())


def _answer_tokens(scorer: Scorer, pairs: Sequence[Pair]) -> Tensor:
    """Log-probability of every answer token, with gradients."""
    logits = scorer.student_logits(pairs)
    ids = torch.tensor([token for pair in pairs for token in scorer.answer_ids(pair.answer)], device=logits.device)
    return token_log_probability(logits, ids)


def _gradient_norm(scorer: Scorer, pair: Pair, weights: Sequence[nn.Parameter]) -> float:
    gradients = torch.autograd.grad(-_answer_tokens(scorer, [pair]).mean(), weights)
    return float(nn.utils.get_total_norm(gradients))


@contextmanager
def _norm_weights(base: BaseModel) -> Iterator[list[nn.Parameter]]:
    """Within, the language tower's weights that are vectors take gradients."""
    weights = [p for p in base.model.get_decoder().parameters() if p.ndim == 1 and p.is_floating_point()]
    before = [weight.requires_grad for weight in weights]
    for weight in weights:
        weight.requires_grad_(True)
    try:
        yield weights
    finally:
        for weight, needed in zip(weights, before, strict=True):
            weight.requires_grad_(needed)
