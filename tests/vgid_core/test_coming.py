"""Retain targets of several steps are computed together, and nothing else changes by that."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tests.vgid_core.tiny import pair_set
from vgid_core import distil as loop
from vgid_core.base_model import BaseModel, load_base
from vgid_core.config import UnlearnConfig
from vgid_core.distil import distil
from vgid_core.lessons import Lesson
from vgid_core.packed_path import PackedPath

FORGET, RETAIN = pair_set("forget", 5), pair_set("retain", 9, first_picture=50)


def config(name: str) -> UnlearnConfig:
    training = {"steps": 6, "forget_batch_size": 3, "retain_batch_size": 2, "learning_rate": 3e-3}
    return UnlearnConfig.model_validate({"method": name, "training": training, "device": "cpu", "seed": 5})


@pytest.mark.parametrize("name", ["vgid", "vgid-alias", "kl-min"])
def test_the_losses_are_those_of_targets_that_are_computed_step_by_step(
    tiny_folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[list[float | None]] = []
    for seen in (1, 4):
        monkeypatch.setattr(loop, "_STEPS_SEEN", seen)
        told.append([])
        base = load_base(str(tiny_folder), config(name))
        distil(base, FORGET, RETAIN, config(name), lambda _step, loss: told[-1].append(loss.retain))
    assert told[0] == pytest.approx(told[1], rel=1e-3, abs=1e-6)


def test_several_steps_targets_are_computed_at_once_and_never_again(base: BaseModel) -> None:
    path, lessons = CountingPath(base), [Lesson.retain(pair) for pair in RETAIN]
    path.keep(lessons)
    path.keep(lessons[:4])
    path.divergence(lessons[2:])
    assert path.computed == [len(RETAIN)]


def test_where_memory_does_not_suffice_for_several_steps_each_computes_its_own(base: BaseModel) -> None:
    path, lessons = SmallMemory(base), [Lesson.retain(pair) for pair in RETAIN]
    path.keep(lessons)
    assert len(path.divergence(lessons[:2]))


class CountingPath(PackedPath):
    def __init__(self, base: BaseModel) -> None:
        super().__init__(base)
        self.computed: list[int] = []
        states = self._model.states

        def counting(exchanges: Sequence[object], kept: bool = False) -> torch.Tensor:
            self.computed += [len(exchanges)] if kept else []
            return states(exchanges, kept)  # type: ignore[arg-type]

        self._model.states = counting  # type: ignore[method-assign, assignment]


class SmallMemory(PackedPath):
    def _teacher(self, lessons: Sequence[Lesson]) -> torch.Tensor:
        if len(lessons) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super()._teacher(lessons)
