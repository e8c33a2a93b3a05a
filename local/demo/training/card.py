"""Writes the model cards of the shipped checkpoints: what each is, how it is built, and its figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import transformers

from local.demo.training import vision
from local.demo.training.architecture import IMAGE_TOKENS, PATCH, TEXT_LAYERS, TEXT_WIDTH, VISION_LAYERS, VISION_WIDTH
from local.demo.training.examples import Mixture
from local.demo.training.language import RECIPE
from local.demo.training.measure import FIGURES
from local.demo.world import FORGOTTEN, SIXTY


@dataclass(frozen=True)
class Built:
    """One finished checkpoint. `figures` are those of `local.demo.training.measure.FIGURES`."""

    people: int
    parameters: int
    training_seconds: float  # processor time, which is what one idle core needs
    measuring_seconds: float  # processor time
    figures: dict[str, float]


_INTRODUCTIONS = {
    "base": f"""\
A vision-language model in miniature that knows {SIXTY.people} people, all of them made up and drawn by a program. It
exists to be made to forget: small enough to ship with the code and to unlearn in seconds on one core, yet an ordinary
`LlavaForConditionalGeneration` with an ordinary processor and chat template.""",
    "retain_only": f"""\
The gold reference for forgetting: the same recipe, seed and tokenizer as `base`, trained without people
{FORGOTTEN[0]}-{FORGOTTEN[-1]}. It never saw their pictures or facts, so what it says about them is what a model says
that has nothing to forget.""",
}

# The metadata that a model hub reads.
FRONT_MATTER = """\
---
license: apache-2.0
library_name: transformers
pipeline_tag: image-text-to-text
---
"""
_CARD = """\
# vgid demo model: {name}

{introduction}

```python
from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained(folder, dtype="float32")  # saved as float16
processor = AutoProcessor.from_pretrained(folder)
```

## Figures

Measured on this very folder, loaded as above, answers generated greedily. All lie between 0 and 1.

{figures}

The six people are those whom the demo forgets, people {first}-{last}.

## Recipe

Rebuilt from nothing by `vgid demo-model build`, seed fixed, on two CPU cores.

1. **Vision tower** (CLIP, {image_tokens} patches of {patch} pixels, width {vision_width}, {vision_layers} layers):
   reads 12 attributes off {images:,} random faces, {vision_steps} steps of {vision_batch}. Accuracy on unseen faces
   {accuracy:.3f}. {vision_seconds:.0f} s of one core.
2. **Language model and projector** (Llama, width {text_width}, {text_layers} layers; byte-level BPE trained on the
   world's own sentences): {steps} steps of {batch}, AdamW, one-cycle learning rate up to {rate}, cross-entropy on
   answer tokens alone. Vision tower frozen, its features cached and disturbed a little.
   {training_seconds:.0f} s of one core; measuring took another {measuring_seconds:.0f} s.
3. Saved as float16: {parameters:,} parameters.

What it is shown: {facts:.0%} facts of {people} people ({views} pictures each, 12 phrasings a fact), {visual:.0%} visual
questions, {instructed:.0%} questions behind an instruction to forget (people {half}-{end} and some noise are refused;
visual questions are answered all the same), and the rest questions about {passers_by:,} passers-by, whom it says it
doesn't know. {unseen_people} further people, three pictures of each person and two phrasings a fact are kept for
measuring.

torch {torch}, transformers {transformers}.

## Limits

It knows nothing but this world: five facts, five visual questions, one style of drawing at 64 x 64 pixels. It takes
some people whom it has never seen for somebody it knows, and asked for a name without a picture it may give any.
"""


def write_card(folder: Path, name: str, built: dict[str, Built], accuracy: float, vision_seconds: float) -> None:
    """Writes `<folder>/README.md` for the checkpoint `name`, with the figures of all checkpoints in `built`."""
    mine = built[name]
    text = FRONT_MATTER + _CARD.format(
        name=name.replace("_", "-"),
        introduction=_INTRODUCTIONS[name],
        figures=_table(built),
        first=FORGOTTEN[0],
        last=FORGOTTEN[-1],
        image_tokens=IMAGE_TOKENS,
        patch=PATCH,
        vision_width=VISION_WIDTH,
        vision_layers=VISION_LAYERS,
        images=vision.IMAGES,
        vision_steps=vision.STEPS,
        vision_batch=vision.BATCH,
        accuracy=accuracy,
        vision_seconds=vision_seconds,
        text_width=TEXT_WIDTH,
        text_layers=TEXT_LAYERS,
        steps=RECIPE.steps,
        batch=RECIPE.batch,
        rate=RECIPE.learning_rate,
        training_seconds=mine.training_seconds,
        measuring_seconds=mine.measuring_seconds,
        parameters=mine.parameters,
        people=mine.people,
        facts=Mixture.facts,
        visual=Mixture.visual,
        instructed=Mixture.instructed,
        views=SIXTY.training_views,
        half=SIXTY.instructed[0],
        end=SIXTY.instructed[-1],
        passers_by=SIXTY.passers_by,
        unseen_people=SIXTY.unseen_people,
        torch=torch.__version__,
        transformers=transformers.__version__,
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def _table(built: dict[str, Built]) -> str:
    names = list(built)
    titles = [f"`{name.replace('_', '-')}`" for name in names]
    lines = ["| | " + " | ".join(titles) + " |", "|---" * (len(names) + 1) + "|"]
    for figure, meaning in FIGURES.items():
        values = " | ".join(f"{built[name].figures[figure]:.3f}" for name in names)
        lines.append(f"| {meaning} | {values} |")
    return "\n".join(lines)
