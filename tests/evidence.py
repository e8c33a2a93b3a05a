"""Evidence as a run gives it, for tests of what becomes of it."""

from __future__ import annotations

from typing import Any

from vgid_core.config import VerdictTargets
from vgid_core.evaluation.estimates import Estimate
from vgid_core.evaluation.figures import Control, Figure
from vgid_core.evaluation.verdict import judge

CONTROL = 0.03
MANIFEST: dict[str, Any] = {
    "method": "VGID",
    "base_model": {"name": "demo", "digest": "ab" * 32},
    "steps": 96,
    "seed": 0,
    "data": {"forget": {"pairs": 2}, "retain": {"pairs": 40}, "unseen_faces": {"photos": 200}},
    "versions": {"vgid": "0.1.0", "torch": "2.6"},
    "config": {"seed": 0},
    "not_shown": ["Measured behaviour is evidence, not proof."],
}


def evidence(generated: float, utility_drop: float = 0.0, neighbour_drop: float = 0.0) -> dict[str, Any]:
    """Evidence of what is said of the forgotten, beside what no verdict can do without: up to 0.23 passes.

    fall, neighbour_drop: what is lost of what the model says about others. Half of it doesn't pass. Neighbours are
    measured only if some is.
    """
    estimate = Estimate(generated, generated - 0.02, generated + 0.02, people=2, items=3)
    nothing = Estimate(0.0, 0.0, 0.0, people=2, items=3)
    figures = [
        Figure("generated.rouge_l", "forget", estimate, Control("unseen people", CONTROL, 0.01, 0.05), 0.98),
        Figure("extraction_strength", "forget", nothing, Control("unseen people", 0.0, 0.0, 0.0), 1.0),
        *(
            Figure("everyone_else.drop", of, Estimate(lost, lost, lost, people=2, items=3))
            for of, lost in (("retain", utility_drop), ("neighbours", neighbour_drop))
            if lost or of == "retain"
        ),
    ]
    return {
        "format": "vgid-evidence/1",
        "level": "standard",
        "seed": 0,
        "figures": [figure.as_json() for figure in figures],
        "verdict": judge(figures, VerdictTargets()).as_json(),
        "limits": ["Measured behaviour is evidence, not proof."],
    }


FORGOTTEN = evidence(0.04)
MISSED = evidence(0.64)
DROPPED = evidence(0.04, utility_drop=0.5)  # misses what all requests of its run share
FALLEN_ELSEWHERE = evidence(0.04, neighbour_drop=0.5)
MISSED_AND_DROPPED = evidence(0.64, utility_drop=0.5)
