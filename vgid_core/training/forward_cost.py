"""The cost of a run, known before it: the number of decoder passes over a pair.

The backward pass counts as one more pass: frozen weights get no gradient, so it costs as much as the forward pass.
"""

from __future__ import annotations

from vgid_core.config import UnlearnConfig
from vgid_core.config.rivals import GradientAscent

STUDENT_PASSES = 2  # forward and backward, for each pair and step

# From the sketch in docs/research/log.md ("Speed"), not from this code: on one H100 at LLaVA-1.5-7B's shapes, compiling
# took 25 to 43 s. With VGID as published it saved 9 ms a forget pair and its retain pair, which take five passes (the
# student's over both, the teacher's over the former).
MIN_PASSES_TO_COMPILE = 25_000


def forward_passes(config: UnlearnConfig, forget_pairs: int) -> int:
    """The number of decoder passes over a pair in a whole run: the student's in each step and the teachers' in all.

    Passes of the base over the pairs themselves don't count: they are computed once and cached. Extra pairs that a
    method adds count even if it finds none.
    """
    training, method = config.training, config.method
    steps = training.steps_for(forget_pairs)
    forget, extra_forget = steps * training.forget_batch_size, steps * method.extra_forget_pairs
    has_retain_term = training.retain_weight > 0 and not isinstance(method, GradientAscent)
    retain = steps * (training.retain_batch_size + method.extra_retain_pairs) if has_retain_term else 0
    student = STUDENT_PASSES * (forget + extra_forget + retain)
    return student + method.teacher_passes(steps, forget, forget_pairs)
