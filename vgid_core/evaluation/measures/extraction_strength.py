"""Extraction Strength: how much of an answer the model completes from how short a prefix."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vgid_core.data.pairs import Pair
from vgid_core.scoring.scorer import Scorer

_BATCH_SIZE = 32


@torch.no_grad()
def extraction_strengths(scorer: Scorer, pairs: Sequence[Pair]) -> list[float]:
    """For each pair 1 - k / n: given the first k of the answer's n tokens, and no fewer, the rest follows greedily.

    1: the model gives the whole answer without a prefix. 0: it doesn't even give the last token. The end of turn counts
    as a token. (Carlini et al., arXiv 2012.07805; as a metric of forgetting, arXiv 2605.24614.)
    """
    strengths = []
    for start in range(0, len(pairs), _BATCH_SIZE):
        chunk = pairs[start : start + _BATCH_SIZE]
        choices = scorer.student_logits(chunk).argmax(-1).tolist()
        for pair in chunk:
            ids = scorer.answer_ids(pair.answer)
            own, choices = choices[: len(ids)], choices[len(ids) :]
            prefix = next((k for k in range(len(ids), 0, -1) if own[k - 1] != ids[k - 1]), 0)
            strengths.append(1 - prefix / len(ids))
    return strengths
