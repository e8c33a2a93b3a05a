"""Builds the shipped models: trains the vision tower, then base and reference model side by side, and measures both."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
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
from local.demo.training.vision import ReportProgress, train_vision
from local.demo.world import FORGOTTEN, the_world

SEED = 1
BASE_NAME = "base"
REFERENCE_NAME = "retain_only"


@dataclass(frozen=True)
class _TrainingTask:
    """One training process's task. `work` holds tower.pt and pixels.npy."""

    name: str
    people: tuple[int, ...]
    work: Path
    folder: Path


def build(out: Path, report: ReportProgress) -> dict[str, Built]:
    """Builds `<out>/base` and `<out>/retain_only` from nothing, with their cards. Returns what was measured.

    Uses two cores, with two processes of one thread each for drawing and for training. The same machine and library
    versions give the same weights.
    """
    # On a busy machine two threads are up to nine times slower than one, and on an idle one not twice as fast.
    torch.set_num_threads(1)
    started = time.process_time()
    tower, accuracy = train_vision(SEED, report)
    vision_seconds = time.process_time() - started
    everybody = tuple(range(len(the_world().people)))
    with TemporaryDirectory() as work_folder:
        work = Path(work_folder)
        torch.save(tower.state_dict(), work / "tower.pt")
        report("drawing the world", 0.0)
        np.save(work / "pixels.npy", training_pixels(SEED))
        report("drawing the world", 1.0)
        kept = tuple(number for number in everybody if number not in FORGOTTEN)
        tasks = [
            _TrainingTask(BASE_NAME, everybody, work, out / BASE_NAME),
            _TrainingTask(REFERENCE_NAME, kept, work, out / REFERENCE_NAME),
        ]
        built = _train_side_by_side(tasks, report)
    for task in tasks:
        write_card(task.folder, task.name, built, accuracy, vision_seconds)
    return built


def _train_side_by_side(tasks: Sequence[_TrainingTask], report: ReportProgress) -> dict[str, Built]:
    context = get_context("spawn")
    messages: Queue[tuple[str, float]] = context.Queue()
    # One thread each: on two cores, two processes with two threads each are 17 times slower.
    with ProcessPoolExecutor(len(tasks), context, initializer=_prepare, initargs=(messages,)) as pool:
        running: list[Future[Built]] = [pool.submit(_train_one, task) for task in tasks]
        while wait(running, timeout=0.2).not_done:
            while not messages.empty():
                report(*messages.get())
        return {task.name: done.result() for task, done in zip(tasks, running, strict=True)}


_messages: Queue[tuple[str, float]]


def _end_with_parent() -> None:
    """Ends this process when the build is killed. Its training would otherwise go on for minutes."""
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


def _train_one(task: _TrainingTask) -> Built:
    started = time.process_time()
    tower = CLIPVisionModel(vision_config())
    tower.load_state_dict(torch.load(task.work / "tower.pt", weights_only=True))
    pixels = torch.from_numpy(np.load(task.work / "pixels.npy"))
    source = ExampleSource(task.people, SEED)
    title = f"training {task.name.replace('_', '-')}"
    model, tokenizer = train_language(tower, pixels, source, SEED, lambda share: _messages.put((title, share)))
    trained = time.process_time()
    save(model, build_processor(tokenizer), task.folder)
    figures = measure(task.folder)
    built = Built(
        people=len(task.people),
        parameters=sum(weight.numel() for weight in model.parameters()),
        training_seconds=trained - started,
        measuring_seconds=time.process_time() - trained,
        figures=figures,
    )
    (task.folder / "figures.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return built
