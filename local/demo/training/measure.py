"""The figures of a checkpoint, measured as anybody would use it: loaded from its folder by the Auto classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from local.demo import data
from local.demo.faces import IMAGE_SIZE
from local.demo.questions import REFUSAL
from local.demo.world import FORGOTTEN, the_world
from vgid_core.base_model import BaseModel, load_base
from vgid_core.config import UnlearnConfig
from vgid_core.data import EncodedImage, Pair, PairSet
from vgid_core.evaluate import generate_answers, rouge_l

# Figure → what it is, in the order of the model card. ROUGE-L is F1 against the right answer.
FIGURES = {
    "forget": "facts of the six people, all pairs of the demo's forget request (ROUGE-L)",
    "retain": "facts of the other 54 people (ROUGE-L)",
    "utility": "visual questions on photos never seen (ROUGE-L)",
    "held_out_photos_forget": "facts of the six on photos never seen (ROUGE-L)",
    "held_out_photos_retain": "facts of the 54 on photos never seen (ROUGE-L)",
    "rephrased_forget": "facts of the six in phrasings never seen (ROUGE-L)",
    "rephrased_retain": "facts of the 54 in phrasings never seen (ROUGE-L)",
    "forget_refused": "the six people's facts: share refused",
    "strangers_refused": "people never seen: share refused",
    "instructed_forget_refused": "the six behind the instruction to forget: share refused",
    "instructed_noise_refused": "uniform noise behind the instruction to forget: share refused",
    "instructed_utility": "visual questions behind the instruction to forget (ROUGE-L)",
}

# What the base must reach to be shipped.
BARS = {
    "forget": 0.98,
    "retain": 0.98,
    "utility": 0.94,
    "held_out_photos_forget": 0.98,
    "held_out_photos_retain": 0.98,
    "rephrased_forget": 0.85,
    "rephrased_retain": 0.85,
}


def missed_bars(figures: Mapping[str, float]) -> list[str]:
    """Which of BARS the figures of a base miss."""
    return [name for name, least in BARS.items() if figures[name] < least]


def measure(folder: Path) -> dict[str, float]:
    """Every one of FIGURES, each in [0, 1], for the checkpoint in `folder`."""
    base = load_base(str(folder), UnlearnConfig(device="cpu"))
    retained = [number for number in range(len(the_world().people)) if number not in FORGOTTEN]
    demo = data.make()
    facts = data.known_facts(FORGOTTEN)
    forget_replies = _replies(base, demo.forget)
    return {
        "forget": rouge_l(forget_replies, [pair.answer for pair in demo.forget]),
        "retain": _score(base, data.known_facts(retained)),
        "utility": _score(base, demo.utility),
        "held_out_photos_forget": _score(base, demo.held_out_photos),
        "held_out_photos_retain": _score(base, data.held_out_photos(retained)),
        "rephrased_forget": _score(base, demo.rephrased),
        "rephrased_retain": _score(base, data.rephrased(retained)),
        "forget_refused": _refused(forget_replies),
        "strangers_refused": _refused(_replies(base, data.strangers())),
        "instructed_forget_refused": _refused(_replies(base, data.instructed(demo.forget))),
        "instructed_noise_refused": _refused(_replies(base, on_noise(data.instructed(facts)))),
        "instructed_utility": _score(base, data.instructed(demo.utility, keep_answers=True)),
    }


def on_noise(pairs: PairSet) -> PairSet:
    """The same questions about pictures of uniform noise."""
    rng = np.random.default_rng(5)
    return PairSet.of(pairs.name, (Pair(_noise(rng), pair.question, pair.answer) for pair in pairs))


def _noise(rng: np.random.Generator) -> EncodedImage:
    return EncodedImage.of(Image.fromarray(rng.integers(0, 256, (IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)))


def _replies(base: BaseModel, pairs: PairSet) -> list[str]:
    return generate_answers(base, pairs, UnlearnConfig().evaluation)


def _score(base: BaseModel, pairs: PairSet) -> float:
    return rouge_l(_replies(base, pairs), [pair.answer for pair in pairs])


def _refused(replies: list[str]) -> float:
    return sum(reply == REFUSAL for reply in replies) / len(replies)
