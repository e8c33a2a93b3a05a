"""Membership inference: scores that tell pairs of the training data from pairs that the model never saw."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vgid_core.data.pairs import Pair
from vgid_core.evaluation.figures import NotMeasured
from vgid_core.losses.token_losses import token_log_probability
from vgid_core.models.base import BaseModel
from vgid_core.scoring.scorer import Scorer

MEMBERSHIP_ATTACKS = ("loss", "zlib", "min_k", "min_k_plus_plus", "grad_norm")
# This project's own. A mean over an answer can look unseen while its parts don't.
OWN_MEMBERSHIP_ATTACKS = ("first_token", "entropy")
ALL_MEMBERSHIP_ATTACKS = (*MEMBERSHIP_ATTACKS, *OWN_MEMBERSHIP_ATTACKS)
_MIN_K_SHARE = 0.2
_BATCH_SIZE = 32


def membership_scores(base: BaseModel, scorer: Scorer, pairs: Sequence[Pair]) -> dict[str, list[float]]:
    """`likelihood_scores` and `gradient_scores` of all pairs, by attack."""
    found = likelihood_scores(scorer, pairs) | {"grad_norm": gradient_scores(base, scorer, pairs)}
    return {name: found[name] for name in ALL_MEMBERSHIP_ATTACKS}


def likelihood_scores(scorer: Scorer, pairs: Sequence[Pair]) -> dict[str, list[float]]:
    """Scores of all pairs, by attack. A higher score means that the model more likely saw the pair in training.

    loss (Yeom et al., arXiv 1709.01604): mean log-probability of the answer's tokens. zlib (Carlini et al.,
    arXiv 2012.07805): their sum over the answer's length in zlib-compressed bytes. min_k (arXiv 2310.16789): mean of
    the least likely 20 %. min_k_plus_plus (arXiv 2404.02936): the same, with each token's log-probability standardised
    by mean and standard deviation of log p under the model's distribution there. first_token: log-probability of the
    answer's first token. entropy: minus the mean entropy of the model's distributions at the answer's tokens.
    """
    scores: dict[str, list[float]] = {name: [] for name in ALL_MEMBERSHIP_ATTACKS if name != "grad_norm"}
    for start in range(0, len(pairs), _BATCH_SIZE):
        chunk = pairs[start : start + _BATCH_SIZE]
        ids = [torch.tensor(scorer.answer_ids(pair.answer)) for pair in chunk]
        with torch.no_grad():
            logits = scorer.student_logits(chunk).float()
            statistics = _token_statistics(logits, torch.cat(ids).to(logits.device))
        by_pair = zip(*(torch.split(values, [len(row) for row in ids]) for values in statistics), strict=True)
        for pair, (tokens, expected, deviation) in zip(chunk, by_pair, strict=True):
            scores["loss"].append(float(tokens.mean()))
            scores["zlib"].append(float(tokens.sum()) / len(zlib.compress(pair.answer.encode())))
            scores["min_k"].append(_mean_of_least(tokens))
            scores["min_k_plus_plus"].append(_mean_of_least((tokens - expected) / deviation))
            scores["first_token"].append(float(tokens[0]))
            scores["entropy"].append(float(expected.mean()))
    return scores


def gradient_scores(base: BaseModel, scorer: Scorer, pairs: Sequence[Pair]) -> list[float]:
    """Minus the norm of the loss's gradient with respect to the language tower's normalisation weights.

    Every family has these, and they take little memory. A pair that training has seen has a smaller gradient. Raises
    NotMeasured for a sharded base, whose weights take no gradients.
    """
    if base.sharded:
        raise NotMeasured("each process holds a part of the model, which takes no gradients")
    with _norm_weights(base) as weights:
        return [-_gradient_norm(scorer, pair, weights) for pair in pairs]


def auc(members: Sequence[float], others: Sequence[float]) -> float:
    """Area under the ROC curve: the probability that a member scores higher than a non-member; ties count half."""
    left, right = torch.tensor(members)[:, None], torch.tensor(others)[None]
    return float((left > right).float().mean() + 0.5 * (left == right).float().mean())


def membership_aucs(
    base: BaseModel, scorer: Scorer, members: Sequence[Pair], others: Sequence[Pair]
) -> dict[str, float]:
    """AUC of each attack. members: forgotten pairs. others: pairs like these that the model was never trained on."""
    inside, outside = membership_scores(base, scorer, members), membership_scores(base, scorer, others)
    return {name: auc(inside[name], outside[name]) for name in inside}


def _token_statistics(logits: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log p of each token; mean and standard deviation of log p under the model's distribution there: each [tokens]."""
    log_p = logits.log_softmax(-1)
    p = log_p.exp()
    mean = (p * log_p).sum(-1)
    deviation = ((p * log_p.square()).sum(-1) - mean.square()).clamp(min=1e-12).sqrt()
    likelihood = log_p.gather(-1, ids[:, None])[:, 0]
    return likelihood, mean, deviation


def _mean_of_least(values: Tensor) -> float:
    count = max(1, round(_MIN_K_SHARE * len(values)))
    return float(values.topk(count, largest=False).values.mean())


def _answer_log_probabilities(scorer: Scorer, pairs: Sequence[Pair]) -> Tensor:
    """log p of each answer token, with gradients: [answer tokens]."""
    logits = scorer.student_logits(pairs)
    ids = torch.tensor([token for pair in pairs for token in scorer.answer_ids(pair.answer)], device=logits.device)
    return token_log_probability(logits, ids)


def _gradient_norm(scorer: Scorer, pair: Pair, weights: Sequence[nn.Parameter]) -> float:
    gradients = torch.autograd.grad(-_answer_log_probabilities(scorer, [pair]).mean(), weights)
    return float(nn.utils.get_total_norm(gradients))


@contextmanager
def _norm_weights(base: BaseModel) -> Iterator[list[nn.Parameter]]:
    """Within the context, the weights of the language tower's norms take gradients.

    They are its vectors, but for the biases of linear layers, to which the adapter's product passes no gradient on.
    """
    biases = {id(module.bias) for module in base.model.modules() if isinstance(module, nn.Linear)}
    vectors = [p for p in base.model.get_decoder().parameters() if p.ndim == 1 and id(p) not in biases]
    weights = [p for p in vectors if p.is_floating_point()]
    before = [weight.requires_grad for weight in weights]
    for weight in weights:
        weight.requires_grad_(True)
    try:
        yield weights
    finally:
        for weight, needed in zip(weights, before, strict=True):
            weight.requires_grad_(needed)
