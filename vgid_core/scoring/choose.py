"""Chooses the scorer: packed rows if they give the model's own logits on probe pairs, else padded rows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import torch

from vgid_core.config import LoraSettings
from vgid_core.data.examples import DistillExample
from vgid_core.data.pairs import Pair, PairSet
from vgid_core.models import distributed
from vgid_core.models.base import BaseModel
from vgid_core.scoring.packed.model import Compiler
from vgid_core.scoring.packed.scorer import PackedScorer
from vgid_core.scoring.padded import PaddedScorer
from vgid_core.scoring.scorer import Scorer

log = logging.getLogger(__name__)

Result = TypeVar("Result")

# Bounds of `PackedScorer.deviation` that rounding explains. In bfloat16 it is 0.06 after 32 layers; wrong masks or
# positions give more than 1 (tests/vgid_core/scoring/test_choose.py).
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.15}
_PROBED_SIZES = 4


def choose_scorer(
    base: BaseModel,
    pairs: Sequence[Pair],
    lora: LoraSettings,
    compiler: Compiler | None = None,
    tolerance: float | None = None,
) -> Scorer:
    """The fastest scorer that gives the model's own logits on `pairs`: packed and compiled, packed, or padded.

    An error or a deviation shows that packed rows don't suit the model; it is logged. The scorer is padded if the
    vision tower is adapted, since packed rows cache its features, and with dropout, since packed questions share one
    prefix and would share its dropout mask.

    tolerance: the bound for `PackedScorer.deviation`, by default that of the base's precision.

    All processes of a run must make this call, and all get the same scorer: a fault in one counts for all. With a
    sharded base, an error during a pass is raised: other processes may be waiting inside the pass.
    """
    if lora.scope != "language" or lora.dropout > 0:
        log.info("padded rows: these settings adapt the vision tower or use dropout")
        return PaddedScorer(base)
    for attempt in [compiler, None] if compiler else [None]:
        what = "compiled packed rows" if attempt else "packed rows"
        scorer = _on_all_processes(what, partial(PackedScorer, base, attempt))
        if scorer is None:
            continue
        deviation = _on_all_processes(what, partial(_deviation, base, scorer, pairs), lockstep=base.sharded)
        if deviation is None:
            continue
        deviations = distributed.all_gather(deviation)
        allowed = _TOLERANCE[base.dtype] if tolerance is None else tolerance
        if all(each <= allowed for each in deviations):
            return scorer
        log.warning("%s deviate by %.1e with this model", what, max(deviations))
    log.warning("using padded rows")
    return PaddedScorer(base)


def probe_pairs(sets: Sequence[PairSet]) -> list[Pair]:
    """A few pairs that expose a wrong scorer: several image sizes, the longest text, and the first two, neighbours."""
    pairs = [pair for items in sets for pair in items]
    by_size = {pair.image.size: pair for pair in reversed(pairs)}
    longest = max(pairs, key=lambda pair: len(pair.question) + len(pair.answer))
    chosen = [*pairs[:2], longest, *list(by_size.values())[:_PROBED_SIZES]]
    return list(dict.fromkeys(chosen))


def _on_all_processes(what: str, compute: Callable[[], Result], lockstep: bool = False) -> Result | None:
    """The result of `compute`; None if it fails in any process. lockstep: raise the error instead."""
    result = None
    try:
        result = compute()
    except Exception as error:
        log.warning("%s aren't possible with this model here: %s", what, type(error).__name__)
        if lockstep:
            raise
    # Outside of the handler: its traceback keeps the frames' tensors alive.
    succeeded = distributed.all_gather(result is not None)
    if result is not None and not all(succeeded):
        log.warning("%s aren't possible in another process", what)
    return result if all(succeeded) else None


def _deviation(base: BaseModel, scorer: PackedScorer, pairs: Sequence[Pair]) -> float:
    """The scorer's deviation. Raises what a backward pass raises."""
    deviation = scorer.deviation(pairs)
    _try_backward(base, scorer, pairs)
    return deviation


def _try_backward(base: BaseModel, scorer: Scorer, pairs: Sequence[Pair]) -> None:
    """One backward pass through the adapter, if there is one: a kernel can lack a gradient."""
    trained = [parameter for parameter in base.model.parameters() if parameter.requires_grad]
    if not trained:
        return
    scorer.divergence([DistillExample.same_for_both(pair) for pair in pairs]).sum().backward()  # type: ignore[no-untyped-call]
    for parameter in trained:
        parameter.grad = None
