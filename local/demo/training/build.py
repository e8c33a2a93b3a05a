"""The whole build: vision tower, then base and twin side by side, each measured from its saved folder."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.queues import Queue
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

import numpy as np
import torch
from transformers import CLIPVisionModel
from transformers.utils import logging as transformers_logging

from local.demo.training.architecture import build_processor, save, vision_config
from local.demo.training.card import Built, write_card
from local.demo.training.examples import ExampleSource, training_pixels
from local.demo.training.language import train_language
from local.demo.training.measure import measure
from local.demo.training.vision import train_vision
from local.demo.world import FORGOTTEN, the_world

SEED = 1
BASE_NAME = "base"
TWIN_NAME = "retain_only_twin"

Tell = Callable[[str, float], None]  # (what is being done, share done from 0 to 1)


@dataclass(frozen=True)
class _Plan:
    """What one training process is given; `work` holds tower.pt and pixels.npy."""

    name: str
    people: tuple[int, ...]
    work: Path
    folder: Path


def build(out: Path, tell: Tell) -> dict[str, Built]:
    """Builds `<out>/base` and `<out>/retain_only_twin` from nothing, with cards; returns what was measured.

    Uses two cores: pictures are drawn, and base and twin trained, by two processes of one thread each. The same
    machine and library versions give the same weights.
    """
    # Here too: on a busy machine two threads are up to nine times slower, on an idle one not twice as fast.
    torch.set_num_threads(1)
    started = time.process_time()
    tower, accuracy = train_vision(SEED, tell)
    vision_seconds = time.process_time() - started
    everybody = tuple(range(len(the_world().people)))
    with TemporaryDirectory() as work_folder:
        work = Path(work_folder)
        torch.save(tower.state_dict(), work / "tower.pt")
        tell("drawing the world", 0.0)
        np.save(work / "pixels.npy", training_pixels(SEED))
        tell("drawing the world", 1.0)
        plans = [
            _Plan(BASE_NAME, everybody, work, out / BASE_NAME),
            _Plan(TWIN_NAME, tuple(number for number in everybody if number not in FORGOTTEN), work, out / TWIN_NAME),
        ]
        built = _train_side_by_side(plans, tell)
    for plan in plans:
        write_card(plan.folder, plan.name, built, accuracy, vision_seconds)
    return built


def _train_side_by_side(plans: Sequence[_Plan], tell: Tell) -> dict[str, Built]:
    context = get_context("spawn")
    messages: Queue[tuple[str, float]] = context.Queue()
    # One thread each: two processes with two threads each on two cores are 17 times slower.
    with ProcessPoolExecutor(len(plans), context, initializer=_prepare, initargs=(messages,)) as pool:
        running: list[Future[Built]] = [pool.submit(_train_one, plan) for plan in plans]
        while wait(running, timeout=0.2).not_done:
            while not messages.empty():
                tell(*messages.get())
        return {plan.name: done.result() for plan, done in zip(plans, running, strict=True)}


_messages: Queue[tuple[str, float]]


def _end_with_parent() -> None:
    """A build that is killed takes its trainings along, which would otherwise go on for minutes."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _prepare(messages: Queue[tuple[str, float]]) -> None:
    global _messages
    _messages = messages
    Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def _train_one(plan: _Plan) -> Built:
    started = time.process_time()
    tower = CLIPVisionModel(vision_config())
    tower.load_state_dict(torch.load(plan.work / "tower.pt", weights_only=True))
    pixels = torch.from_numpy(np.load(plan.work / "pixels.npy"))
    source = ExampleSource(plan.people, SEED)
    title = f"training {plan.name.replace('_', '-')}"
    model, tokenizer = train_language(tower, pixels, source, SEED, lambda share: _messages.put((title, share)))
    trained = time.process_time()
    save(model, build_processor(tokenizer), plan.folder)
    figures = measure(plan.folder)
    built = Built(
        people=len(plan.people),
        parameters=sum(weight.numel() for weight in model.parameters()),
        training_seconds=trained - started,
        measuring_seconds=time.process_time() - trained,
        figures=figures,
    )
    (plan.folder / "figures.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return built
