"""How much work a run is, told before it: how often a pair goes through the decoder, one way.

A frozen weight has no gradient, so a way back costs what a way forward does.
"""

from __future__ import annotations

from vgid_core.config import UnlearnConfig
from vgid_core.config.methods import GradientAscent

STUDENT_PASSES = 2  # a pair and step: there and back

# Compiling takes 25 to 43 s. It saves 9 ms a pair of VGID's as published, which is five passes (the student's over a
# forget and a retain pair, the teacher's over the former), at LLaVA-1.5-7B's shapes on one H100.
PASSES_WORTH_COMPILING = 25_000


def run_passes(config: UnlearnConfig, forget_pairs: int) -> int:
    """The student's in every step, and the teachers' in all: in each step, or once a forget pair before it.

    What the base says to the pairs themselves is computed once for each and kept; that isn't counted. Pairs of a
    method's own making count, also where it finds none to make.
    """
    training, method = config.training, config.method
    steps = training.steps_for(forget_pairs)
    forget, beside = steps * training.forget_batch_size, steps * method.forget_beside_batch
    kept = training.retain_weight > 0 and not isinstance(method, GradientAscent)
    retain = steps * (training.retain_batch_size + method.kept_beside_batch) if kept else 0
    student = STUDENT_PASSES * (forget + beside + retain)
    return student + method.base_passes(steps, forget, forget_pairs)
