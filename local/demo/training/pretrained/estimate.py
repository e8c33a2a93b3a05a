"""Estimates what a build on a pretrained language tower takes on this machine, by timing a few real steps."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass, replace

import torch

from local.demo.faces import draw_portrait
from local.demo.training.architecture import IMAGE_TOKENS, VISION_WIDTH
from local.demo.training.build import SEED
from local.demo.training.examples import NOISE_PICTURES, ExampleSource
from local.demo.training.pretrained.build import BuildPlan, device_name, make_trainer
from local.demo.training.rendering import WORKERS
from local.demo.training.shipped_tower import shipped_vision_tower
from local.demo.training.vision import ReportProgress
from local.demo.world import the_world
from vgid_core.models.load import choose_device

# The timed steps have one micro-batch each. The first steps aren't timed, because layers are compiled in them.
UNTIMED = 2
PARTS = 3
PORTRAITS = 100
# Per weight. A checkpoint holds it and two moments in float32; the finished model holds it in float16.
_CHECKPOINT_BYTES, _SAVED_BYTES = 12, 2


@dataclass(frozen=True)
class Estimate:
    """The estimate.

    part_seconds: each timed micro-batch, of `part` examples. The other times follow from their mean.
    memory_bytes: the peak of the accelerator, or else of the process.
    disk_bytes: the finished models and one checkpoint, without the data sets.
    """

    device: str
    part: int
    part_seconds: list[float]
    step_seconds: float
    training_seconds: float
    drawing_seconds: float
    memory_bytes: int
    disk_bytes: int


def estimate(plan: BuildPlan, report: ReportProgress) -> Estimate:
    """Times some small training steps and the drawing of some portraits, and writes nothing.

    The estimate doesn't include measuring the finished models.
    """
    device = choose_device("auto")
    pictures = plan.census.people * plan.census.training_views + plan.census.passers_by + NOISE_PICTURES
    # Random features take as long as real ones.
    features = torch.randn(pictures, IMAGE_TOKENS, VISION_WIDTH, device=device)
    recipe = plan.recipe
    part = min(recipe.micro_batch, recipe.batch)
    small_plan = replace(plan, recipe=replace(recipe, batch=part))
    trainer = make_trainer(small_plan, shipped_vision_tower().state_dict(), features)
    source = ExampleSource(range(plan.census.people), SEED, plan.census, plan.mixture)
    seconds = []
    for done in range(1, 1 + UNTIMED + PARTS):
        started = time.monotonic()
        trainer.step(source.draw(part))  # returns the loss, so the device has finished
        seconds.append(time.monotonic() - started)
        report("timing steps", done / (UNTIMED + PARTS))
    timed = seconds[UNTIMED:]
    step_seconds = sum(timed) / PARTS * recipe.batch / part
    models = len(plan.models())
    trained = sum(weight.numel() for weight in trainer.model.parameters() if weight.requires_grad)
    every = sum(weight.numel() for weight in trainer.model.parameters())
    return Estimate(
        device=device_name(device) + (", layers compiled" if trainer.compiled else ""),
        part=part,
        part_seconds=timed,
        step_seconds=step_seconds,
        training_seconds=step_seconds * recipe.steps * models,
        drawing_seconds=_portrait_seconds(plan) * pictures / WORKERS,
        memory_bytes=_memory_in_use(device),
        disk_bytes=every * _SAVED_BYTES * models + trained * _CHECKPOINT_BYTES,
    )


def _portrait_seconds(plan: BuildPlan) -> float:
    person = the_world(plan.census).people[0]
    started = time.monotonic()
    for number in range(PORTRAITS):
        draw_portrait(person.face, person.training_views[number % plan.census.training_views])
    return (time.monotonic() - started) / PORTRAITS


def _memory_in_use(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
