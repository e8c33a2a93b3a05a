"""Two ways to the same losses: packed rows where that is proven equal on the model at hand, else row by row."""

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

Found = TypeVar("Found")

# Of packed logits from the model's own, as `PackedScorer.deviation` takes it: what rounding explains. In bfloat16 it is
# 0.06 after 32 layers, where wrong masks or positions give more than 1 (tests/vgid_core/scoring/test_choose.py).
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.15}
_SIZES_CHECKED = 4


def choose_scorer(
    base: BaseModel,
    pairs: Sequence[Pair],
    lora: LoraSettings,
    compiler: Compiler | None = None,
    tolerance: float | None = None,
) -> Scorer:
    """The fastest scorer that gives the model's own logits on `pairs`: packed and compiled, packed, or plain.

    Whatever a family does differently shows as an error or a deviation here; then the log says what it was. Where the
    vision side is adapted too, it is plain: the packed scorer keeps image features, which then change. So it is with
    dropout, of which each question draws its own, also for the prefix it would share. `tolerance` is
    what rounding explains of a deviation (`PackedScorer.deviation`), by default that of the base's own precision.

    Processes that share a run all make this call, and what one of them finds wrong is wrong for all: they take the same
    scorer. Only where a pass through a base that they share fails is the error raised, memory that runs out among
    others: the rest may wait for this process in the midst of a layer, where nothing can be told them.
    """
    if lora.scope != "language" or lora.dropout > 0:
        log.info("going row by row, as these settings need: an adapted vision side, or dropout")
        return PaddedScorer(base)
    for attempt in [compiler, None] if compiler else [None]:
        what = "compiled packed rows" if attempt else "packed rows"
        scorer = _if_possible_to_all(what, partial(PackedScorer, base, attempt))
        if scorer is None:
            continue
        deviation = _if_possible_to_all(what, partial(_deviation, base, scorer, pairs), in_step=base.sharded)
        if deviation is None:
            continue
        deviations = distributed.all_gather(deviation)
        allowed = _TOLERANCE[base.dtype] if tolerance is None else tolerance
        if all(each <= allowed for each in deviations):
            return scorer
        log.warning("%s deviate by %.1e with this model", what, max(deviations))
    log.warning("going row by row")
    return PaddedScorer(base)


def probe_pairs(sets: Sequence[PairSet]) -> list[Pair]:
    """A few pairs on which a scorer shows what is wrong with it: one an image size, the longest text, neighbours."""
    pairs = [pair for items in sets for pair in items]
    by_size = {pair.image.size: pair for pair in reversed(pairs)}
    longest = max(pairs, key=lambda pair: len(pair.question) + len(pair.answer))
    chosen = [*sets[0].pairs[:2], longest, *list(by_size.values())[:_SIZES_CHECKED]]
    return list(dict.fromkeys(chosen))


def _if_possible_to_all(what: str, compute: Callable[[], Found], in_step: bool = False) -> Found | None:
    """What comes of it; None where it fails in any process that shares the run. In step, an error is raised."""
    found = None
    try:
        found = compute()
    except Exception as error:
        log.warning("%s aren't possible with this model here: %s", what, type(error).__name__)
        if in_step:
            raise
    # Outside of the handler, whose frames hold tensors.
    succeeded = distributed.all_gather(found is not None)
    if found is not None and not all(succeeded):
        log.warning("%s aren't possible in another process", what)
    return found if all(succeeded) else None


def _deviation(base: BaseModel, scorer: PackedScorer, pairs: Sequence[Pair]) -> float:
    """The scorer's, after which a pass back has been possible, too."""
    deviation = scorer.deviation(pairs)
    _try_backward(base, scorer, pairs)
    return deviation


def _try_backward(base: BaseModel, scorer: Scorer, pairs: Sequence[Pair]) -> None:
    """One pass back through the adapter, if there is one: a kernel may exist for the way forward alone."""
    trained = [parameter for parameter in base.model.parameters() if parameter.requires_grad]
    if not trained:
        return
    scorer.divergence([DistillExample.same_for_both(pair) for pair in pairs]).sum().backward()  # type: ignore[no-untyped-call]
    for parameter in trained:
        parameter.grad = None
