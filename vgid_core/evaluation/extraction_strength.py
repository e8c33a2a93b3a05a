"""Extraction Strength: how much of an answer must be given before the model says the rest by itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vgid_core.data.pairs import Pair
from vgid_core.scoring.scorer import Scorer

_PAIRS_AT_ONCE = 32


@torch.no_grad()
def extraction_strengths(scorer: Scorer, pairs: Sequence[Pair]) -> list[float]:
    """For each pair 1 - k / n: with the first k of the answer's n tokens given, the others follow greedily.

    k is the smallest such number, so 1 means that the model gives the whole answer unasked, and 0 that not even its
    last token follows. The end of turn counts as a token. (Carlini et al., arXiv 2012.07805; as a metric of forgetting
    arXiv 2605.24614.)
    """
    strengths = []
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        chunk = pairs[start : start + _PAIRS_AT_ONCE]
        choices = scorer.student_logits(chunk).argmax(-1).tolist()
        for pair in chunk:
            ids = scorer.answer_ids(pair.answer)
            said, choices = choices[: len(ids)], choices[len(ids) :]
            given = next((k for k in range(len(ids), 0, -1) if said[k - 1] != ids[k - 1]), 0)
            strengths.append(1 - given / len(ids))
    return strengths
