"""Questions that no picture answers, with short answers: what a pretrained language tower knows and is to keep.

Each answer is the first sentence of what SmolLM2-135M-Instruct says by itself, so that training on them takes nothing
away; questions that it answers wrongly are not among them.
"""

from __future__ import annotations

QUESTIONS: tuple[tuple[str, str], ...] = (
    ("What is the capital of France?", "The capital of France is Paris."),
    ("What is the capital of Italy?", "The capital of Italy is Rome."),
)

# Every third one is only ever measured.
TRAINED = tuple(item for place, item in enumerate(QUESTIONS) if place % 3 != 2)
HELD_OUT = QUESTIONS[2::3]
