"""Measures a checkpoint's figures, after loading it from its folder with the Auto classes as a user would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from local.demo import data
from local.demo.faces import IMAGE_SIZE
from local.demo.questions import REFUSAL
from local.demo.world import FORGOTTEN, SIXTY, Census
from vgid_core.config import UnlearnConfig
from vgid_core.data.pairs import EncodedImage, Pair, PairSet
from vgid_core.evaluation.evaluate import generate_answers
from vgid_core.evaluation.measures.rouge import rouge_l
from vgid_core.models.base import BaseModel
from vgid_core.models.load import load_base


def figures_of(forgotten: str, kept: str) -> dict[str, str]:
    """The meaning of each figure, in the order of the model card. ROUGE-L is F1 against the right answer.

    forgotten, kept: how many people, in words.
    """
    return {
        "forget": f"facts of the {forgotten} people, all pairs of the demo's forget request (ROUGE-L)",
        "retain": f"facts of the other {kept} people (ROUGE-L)",
        "utility": "visual questions on photos never seen (ROUGE-L)",
        "held_out_photos_forget": f"facts of the {forgotten} on photos never seen (ROUGE-L)",
        "held_out_photos_retain": f"facts of the {kept} on photos never seen (ROUGE-L)",
        "rephrased_forget": f"facts of the {forgotten} in phrasings never seen (ROUGE-L)",
        "rephrased_retain": f"facts of the {kept} in phrasings never seen (ROUGE-L)",
        "forget_refused": f"the {forgotten} people's facts: share refused",
        "unseen_refused": "unseen people: share refused",
        "instructed_forget_refused": f"the {forgotten} behind the instruction to forget: share refused",
        "instructed_noise_refused": "uniform noise behind the instruction to forget: share refused",
        "instructed_utility": "visual questions behind the instruction to forget (ROUGE-L)",
    }


# The shipped models' figures.
FIGURES = figures_of("six", "54")
# The further figure of a world with general questions.
GENERAL_FIGURE = {"general": "general questions never trained on (ROUGE-L)"}

# The base must reach these figures to be shipped.
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
    """The names in BARS whose figure is too low."""
    return [name for name, least in BARS.items() if figures[name] < least]


def measure(
    folder: Path,
    forgotten: Sequence[int] = FORGOTTEN,
    census: Census = SIXTY,
    device: str = "cpu",
    most: int | None = None,
) -> dict[str, float]:
    """Measures every figure of `figures_of` for the checkpoint in `folder`, and the general one if the world has it.

    most: measure at most so many pairs of each set, spread over it. Figures are in [0, 1].
    """
    evaluator = _Evaluator(load_base(str(folder), UnlearnConfig(device=device)), most)
    retained = [number for number in range(census.people) if number not in forgotten]
    demo = data.make(forgotten, census)
    facts = data.known_facts(forgotten, census=census)
    visual = data.utility([*forgotten, *retained[: data.RETAINED_IN_UTILITY]], census=census)
    on_forgotten = evaluator.answers(demo.forget)
    figures = {
        "forget": rouge_l(*on_forgotten),
        "retain": evaluator.score(data.known_facts(retained, census=census)),
        "utility": evaluator.score(visual),
        "held_out_photos_forget": evaluator.score(demo.held_out_photos),
        "held_out_photos_retain": evaluator.score(data.held_out_photos(retained, census)),
        "rephrased_forget": evaluator.score(demo.rephrased),
        "rephrased_retain": evaluator.score(data.rephrased(retained, census)),
        "forget_refused": _share_refused(on_forgotten[0]),
        "unseen_refused": _share_refused(evaluator.answers(data.refusals(census))[0]),
        "instructed_forget_refused": _share_refused(evaluator.answers(data.instructed(demo.forget))[0]),
        "instructed_noise_refused": _share_refused(evaluator.answers(on_noise(data.instructed(facts)))[0]),
        "instructed_utility": evaluator.score(data.instructed(visual, keep_answers=True)),
    }
    return figures | ({"general": evaluator.score(data.general(census))} if census.general else {})


def on_noise(pairs: PairSet) -> PairSet:
    """The same questions on pictures of uniform noise."""
    rng = np.random.default_rng(5)
    return PairSet.of(pairs.name, (Pair(_noise(rng), pair.question, pair.answer) for pair in pairs))


def _noise(rng: np.random.Generator) -> EncodedImage:
    return EncodedImage.of(Image.fromarray(rng.integers(0, 256, (IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)))


@dataclass(frozen=True)
class _Evaluator:
    base: BaseModel
    most: int | None

    def answers(self, pairs: PairSet) -> tuple[list[str], list[str]]:
        """The model's answers, and the right ones."""
        asked = pairs if self.most is None else pairs.sample(self.most)
        return generate_answers(self.base, asked, UnlearnConfig().evaluation), [pair.answer for pair in asked]

    def score(self, pairs: PairSet) -> float:
        return rouge_l(*self.answers(pairs))


def _share_refused(answers: list[str]) -> float:
    return sum(answer == REFUSAL for answer in answers) / len(answers)
