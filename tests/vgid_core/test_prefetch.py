"""Retain targets of several steps are computed together, and nothing else changes by that."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tests.vgid_core.tiny import pair_set
from vgid_core.config import UnlearnConfig
from vgid_core.data.examples import DistillExample
from vgid_core.models.base import BaseModel
from vgid_core.models.load import load_base
from vgid_core.scoring.packed.scorer import PackedScorer
from vgid_core.training import loop
from vgid_core.training.loop import distil

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
    path, examples = CountingPath(base), [DistillExample.same_for_both(pair) for pair in RETAIN]
    path.precompute(examples)
    path.precompute(examples[:4])
    path.divergence(examples[2:])
    assert path.computed == [len(RETAIN)]


def test_where_memory_does_not_suffice_for_several_steps_each_computes_its_own(base: BaseModel) -> None:
    path, examples = SmallMemory(base), [DistillExample.same_for_both(pair) for pair in RETAIN]
    path.precompute(examples)
    assert len(path.divergence(examples[:2]))


class CountingPath(PackedScorer):
    def __init__(self, base: BaseModel) -> None:
        super().__init__(base)
        self.computed: list[int] = []
        states = self._model.states

        def counting(examples: Sequence[object], side: str, kept: bool = False) -> torch.Tensor:
            self.computed += [len(examples)] if kept else []
            return states(examples, side, kept)  # type: ignore[arg-type]

        self._model.states = counting  # type: ignore[method-assign, assignment]


class SmallMemory(PackedScorer):
    def _teacher(self, examples: Sequence[DistillExample]) -> torch.Tensor:
        if len(examples) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super()._teacher(examples)
