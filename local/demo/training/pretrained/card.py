"""Writes the card of a model on a pretrained language tower: what it is, how it is built, and its figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import transformers

from local.demo.training.card import FRONT_MATTER
from local.demo.training.examples import Mixture
from local.demo.training.loop import Recipe
from local.demo.training.measure import GENERAL_FIGURE, figures_of
from local.demo.world import Census


@dataclass(frozen=True)
class Trained:
    """One finished model.

    share: per cent of the people who count as forgotten; a reference model has never met them.
    seed: of the initial weights and the examples. training_seconds: None if the training was interrupted.
    """

    name: str
    tower: str
    share: int
    seed: int
    parameters: int
    device: str
    training_seconds: float | None
    figures: dict[str, float]

    def meanings(self, census: Census) -> dict[str, str]:
        """The meaning of each figure."""
        forgotten = len(census.first(self.share))
        return figures_of(str(forgotten), str(census.people - forgotten)) | GENERAL_FIGURE


_CARD = """\
# vgid demo model on a pretrained language tower: {name}

A LLaVA whose language tower is {tower} and whose vision tower is that of vgid's small demo model.
{knows} All of them are made up and drawn by a program.
Built by `vgid demo-model build --language smollm2`.

## Figures

Measured on this very folder, answers generated greedily, on at most {most} pairs of each kind. All lie between 0 and 1.

| | |
|---|---|
{figures}

## Recipe

- {steps} steps of {batch} examples, AdamW, one-cycle learning rate up to {rate} ({projector_rate} for the projector),
  cross-entropy on answer tokens alone, all weights but the vision tower's.
- {mixture}; the rest are people whom it doesn't know.
- Trained on {device}, {took}, seed {seed}.
- Saved as float16: {parameters:,} parameters.

torch {torch}, transformers {transformers}.
"""


def write_card(folder: Path, model: Trained, census: Census, recipe: Recipe, mixture: Mixture, most: int) -> None:
    """Writes `<folder>/README.md`. most: the limit on the pairs of each kind that were measured."""
    unmet = len(census.first(model.share))
    seconds = model.training_seconds
    text = FRONT_MATTER + _CARD.format(
        name=model.name.replace("_", "-"),
        tower=model.tower,
        knows=f"It knows {census.people} people."
        if model.name == "base"
        else f"It knows {census.people - unmet} of {census.people} people and has never met the first {unmet}.",
        figures="\n".join(
            f"| {meaning} | {model.figures[figure]:.3f} |" for figure, meaning in model.meanings(census).items()
        ),
        most=most,
        steps=recipe.steps,
        batch=recipe.batch,
        rate=recipe.learning_rate,
        projector_rate=recipe.projector_rate,
        mixture=f"{mixture.facts:.0%} facts, {mixture.visual:.0%} visual and {mixture.general:.0%} general questions, "
        f"{mixture.instructed:.0%} behind an instruction to forget",
        device=model.device,
        took="with interruptions" if seconds is None else f"{seconds:.0f} s",
        seed=model.seed,
        parameters=model.parameters,
        torch=torch.__version__,
        transformers=transformers.__version__,
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
