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
    "data": {"forget": {"pairs": 2}, "retain": {"pairs": 40}, "strangers": {"photos": 200}},
    "versions": {"vgid": "0.1.0", "torch": "2.6"},
    "config": {"seed": 0},
    "not_shown": ["Measured behaviour is evidence, not proof."],
}


def evidence(said: float, fall: float = 0.0, bystanders_fall: float = 0.0) -> dict[str, Any]:
    """Evidence of what is said of the forgotten, beside what no verdict can do without: up to 0.23 passes.

    fall, bystanders_fall: what is lost of what the model says about others. Half of it doesn't pass. Bystanders are
    measured only if some is.
    """
    estimate = Estimate(said, said - 0.02, said + 0.02, people=2, items=3)
    nothing = Estimate(0.0, 0.0, 0.0, people=2, items=3)
    figures = [
        Figure("said.rouge_l", "forget", estimate, Control("people never seen", CONTROL, 0.01, 0.05), 0.98),
        Figure("extraction_strength", "forget", nothing, Control("people never seen", 0.0, 0.0, 0.0), 1.0),
        *(
            Figure("everyone_else.fall", of, Estimate(lost, lost, lost, people=2, items=3))
            for of, lost in (("retain", fall), ("bystanders", bystanders_fall))
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
FALLEN = evidence(0.04, fall=0.5)  # misses what all requests of its run share
FALLEN_ELSEWHERE = evidence(0.04, bystanders_fall=0.5)
MISSED_AND_FALLEN = evidence(0.64, fall=0.5)
