"""What `bench.fleet` reckons with, and where each number is from: measured, published, a default or assumed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from bench.machine import RESULTS

_H100 = "measured on one H100 at LLaVA-1.5-7B's shapes, VGID as published"
_SKETCH = f"{_H100}, by a sketch of this code"
BASE_GIB = 13.2  # 7.06 billion parameters of two bytes
_READ_GIB_PER_SECOND = 2.0
_MOVE_GIB_PER_SECOND = 5.0


@dataclass(frozen=True)
class Numbers:
    """Times in seconds, prices in US dollars.

    A pair is VGID's as published: a forget and a retain question, forward and backward, and the teacher's forward.
    """

    published_pair_seconds: float
    tuned_pair_seconds: float
    eager_pair_seconds: float
    compiled_pair_seconds: float
    compile_seconds: float
    passes_a_pair: int
    people_a_run: int
    least_people_a_run: int
    forget_pairs_a_person: int
    evaluation_share: float
    packaging_seconds: float
    claim_seconds: float
    turn_seconds: float
    cold_start_seconds: float
    warm_start_seconds: float
    spare_ready_seconds: float
    gpu_hour_price: float
    retraining_gpu_hours: float
    retraining_gpu_hour_price: float


def _result(bench: str, *path: str, default: float) -> float:
    """A figure of an earlier bench on this machine, or the default where that bench hasn't run."""
    file = RESULTS / f"{bench}.json"
    value: Any = json.loads(file.read_text()) if file.exists() else default
    for name in path if file.exists() else ():
        value = value[name]
    return float(value)


_claim = _result("queue_latency", "commit_to_claim_seconds", "median", default=0.033)
_turn = _result("warm_start", "warm", "end_to_next_claim_seconds", "median", default=1.0)
_warm_loading = _result("warm_start", "warm", "loading_seconds", "median", default=0.5)
_cold_loading = _result("warm_start", "cold", "loading_seconds", "median", default=5.0)
_reading, _moving = BASE_GIB / _READ_GIB_PER_SECOND, BASE_GIB / _MOVE_GIB_PER_SECOND

NUMBERS = Numbers(
    published_pair_seconds=0.948,
    tuned_pair_seconds=0.216,
    eager_pair_seconds=0.034,
    compiled_pair_seconds=0.025,
    compile_seconds=34.0,
    passes_a_pair=5,
    people_a_run=6,
    least_people_a_run=6,
    forget_pairs_a_person=40,
    evaluation_share=0.3,
    packaging_seconds=1.0,
    claim_seconds=_claim,
    turn_seconds=_turn,
    cold_start_seconds=_cold_loading + _reading + _moving,
    warm_start_seconds=_warm_loading + _moving,
    spare_ready_seconds=_cold_loading + _reading,
    gpu_hour_price=3.0,
    retraining_gpu_hours=80.0,
    retraining_gpu_hour_price=1.5,
)

_BASE = f"{BASE_GIB} GiB read at {_READ_GIB_PER_SECOND:.0f} GiB/s"
_MOVE = f"moved to the GPU at {_MOVE_GIB_PER_SECOND:.0f} GiB/s"
_STARTS = "`python -m bench.warm_start`, the demo's small model on 2 cores; assumed beside it:"
SOURCES: dict[str, str] = {
    "published_pair_seconds": f"{_H100}: 948 ms",
    "tuned_pair_seconds": f"{_H100}: 216 ms",
    "eager_pair_seconds": f"{_SKETCH}: 33-35 ms",
    "compiled_pair_seconds": f"{_SKETCH}: 24-26 ms",
    "compile_seconds": f"{_SKETCH}: 25-43 s, in every job's process anew; paid from "
    "`vgid_core.passes.PASSES_WORTH_COMPILING` passes on",
    "passes_a_pair": "counted: two of the student over each of the two questions, one of the teacher. That every pass "
    "takes a fifth of a pair's time, also those of the default method, is **assumed**",
    "people_a_run": "measured on the demo only: so many are forgotten in a method's own steps "
    "(`python -m bench.robustness`, `bench.forgetting`). That a 7B model needs as many steps is **assumed**; "
    "for more people, that VGID as published needs proportionally more. The default's own rule is the library's",
    "least_people_a_run": "**assumed**: fewer people need as many steps as so many",
    "forget_pairs_a_person": "the demo's data: 240 for six people",
    "evaluation_share": "**assumed**: the bar of this project, of the training time of VGID as published; not "
    "measured on a GPU yet. The default method's evaluation asks the same, so it takes as long",
    "packaging_seconds": "**assumed**",
    "claim_seconds": "measured, `python -m bench.queue_latency`, commit to claim",
    "turn_seconds": "measured, `python -m bench.warm_start`, a job's end to the next one's claim",
    "cold_start_seconds": f"measured, {_STARTS} {_BASE}, {_MOVE}",
    "warm_start_seconds": f"measured, {_STARTS} the base {_MOVE}",
    "spare_ready_seconds": f"measured, {_STARTS} {_BASE}",
    "gpu_hour_price": "**assumed**: one H100, rented",
    "retraining_gpu_hours": "published: instruction tuning of LLaVA-1.5-7B, about 10 hours on 8 A100 (the authors' "
    "repository, github.com/haotian-liu/LLaVA; the paper, arXiv 2310.03744, says about a day on 8 A100 for all of 13B)",
    "retraining_gpu_hour_price": "**assumed**: one A100, rented",
}
