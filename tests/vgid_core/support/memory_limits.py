"""A scorer on an accelerator with little memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from vgid_core.scoring.scorer import Scorer


def small_memory(scorer: Scorer, most: int, sizes: list[int]) -> Scorer:
    """The same scorer, out of memory for more than `most` examples. Appends the size of each call to `sizes`."""

    def limited(compute: Callable[..., Any]) -> Callable[..., Any]:
        def fits(items: Sequence[object], *more: object) -> Any:
            sizes.append(len(items))
            if len(items) > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return compute(items, *more)

        return fits

    scorer.divergence = limited(scorer.divergence)  # type: ignore[method-assign]
    scorer.kl_and_logprob = limited(scorer.kl_and_logprob)  # type: ignore[method-assign]
    return scorer
