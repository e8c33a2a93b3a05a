"""What a build on a pretrained language tower would take on this machine, from a few real steps of it."""

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
from local.demo.training.pretrained import Order, Tell, device_name, trainer_of
from local.demo.training.rendering import WORKERS
from local.demo.training.twins import shipped_tower
from local.demo.world import the_world
from vgid_core.models.load import choose_device

# Steps of as many examples as are computed together: some that aren't timed, as layers are compiled in them, then some
# that are.
UNTIMED = 2
PARTS = 3
PORTRAITS = 100
# A weight and its two moments in float32; a weight of the finished model in float16.
_CHECKPOINT_BYTES, _SAVED_BYTES = 12, 2


@dataclass(frozen=True)
class Estimate:
    """part_seconds: each timed part of a step, of `part` examples; the others follow from their mean.

    memory_bytes: the most that was in use, of the accelerator or else of the process. disk_bytes: finished models and
    the checkpoint of the one in training; data sets come on top.
    """

    device: str
    part: int
    part_seconds: list[float]
    step_seconds: float
    training_seconds: float
    drawing_seconds: float
    memory_bytes: int
    disk_bytes: int


def estimate(order: Order, tell: Tell) -> Estimate:
    """Times real steps, if smaller ones, and the drawing of some portraits; nothing stays of them.

    Measuring the finished models isn't in it.
    """
    device = choose_device("auto")
    pictures = order.census.people * order.census.training_views + order.census.passers_by + NOISE_PICTURES
    # Features take no other time for being no picture's.
    features = torch.randn(pictures, IMAGE_TOKENS, VISION_WIDTH, device=device)
    recipe = order.recipe
    part = min(recipe.micro_batch, recipe.batch)
    trainer = trainer_of(replace(order, recipe=replace(recipe, batch=part)), shipped_tower().state_dict(), features)
    source = ExampleSource(range(order.census.people), SEED, order.census, order.mixture)
    seconds = []
    for done in range(1, 1 + UNTIMED + PARTS):
        started = time.monotonic()
        trainer.step(source.draw(part))  # it reads its loss back
        seconds.append(time.monotonic() - started)
        tell("timing steps", done / (UNTIMED + PARTS))
    timed = seconds[UNTIMED:]
    step_seconds = sum(timed) / PARTS * recipe.batch / part
    models = len(order.models())
    trained = sum(weight.numel() for weight in trainer.model.parameters() if weight.requires_grad)
    every = sum(weight.numel() for weight in trainer.model.parameters())
    return Estimate(
        device=device_name(device) + (", layers compiled" if trainer.compiled else ""),
        part=part,
        part_seconds=timed,
        step_seconds=step_seconds,
        training_seconds=step_seconds * recipe.steps * models,
        drawing_seconds=_portrait_seconds(order) * pictures / WORKERS,
        memory_bytes=_memory_in_use(device),
        disk_bytes=every * _SAVED_BYTES * models + trained * _CHECKPOINT_BYTES,
    )


def _portrait_seconds(order: Order) -> float:
    person = the_world(order.census).people[0]
    started = time.monotonic()
    for number in range(PORTRAITS):
        draw_portrait(person.face, person.training_views[number % order.census.training_views])
    return (time.monotonic() - started) / PORTRAITS


def _memory_in_use(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
