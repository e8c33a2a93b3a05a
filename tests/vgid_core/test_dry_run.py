"""Dry runs on a tiny model, against the model itself."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from torch import Tensor

from tests.vgid_core.support.knowing import COMMON, FORGET, RETAIN, UNSEEN
from tests.vgid_core.support.tiny import pair_set
from vgid_core import PairSet, UnlearnConfig, UnlearnSpec, dry_run
from vgid_core.config.methods import AnyMethod
from vgid_core.data.examples import DistillExample, Side
from vgid_core.dry_run import Estimate, estimate
from vgid_core.methods import setup
from vgid_core.methods.base import MethodContext
from vgid_core.methods.loss_terms import MakeUpdates
from vgid_core.models.base import BaseModel
from vgid_core.scoring.packed.model import PackedModel
from vgid_core.training import loop

CONFIG = UnlearnConfig.model_validate(
    {
        "device": "cpu",
        "training": {"steps": 50, "forget_batch_size": 4, "retain_batch_size": 4, "micro_batch_size": 4},
        "evaluation": {"max_new_tokens": 6},
    }
)


def estimated(model: Path, out: Path, forget: PairSet, micro_batch_size: int = 4) -> Estimate:
    training = CONFIG.training.model_copy(update={"micro_batch_size": micro_batch_size})
    config = CONFIG.model_copy(update={"training": training})
    retain = pair_set("retain", 6, first_picture=20)
    return estimate(UnlearnSpec(str(model), "tiny", forget, retain, out, config=config))


def test_memory_and_time_are_those_of_the_model(tiny_folder: Path, tmp_path: Path, base: BaseModel) -> None:
    found = estimated(tiny_folder, tmp_path / "out", pair_set("forget", 4))
    assert found.parameters == sum(parameter.numel() for parameter in base.model.parameters())
    assert found.memory.weights >= sum(parameter.nbytes for parameter in base.model.parameters())
    assert found.memory.adapter == 2 * found.adapter_file == 2 * 4 * found.adapter_parameters
    assert found.memory.optimizer == 2 * 4 * found.adapter_parameters
    assert found.memory.how == "counted"
    parts = (found.memory.weights, found.memory.adapter, found.memory.optimizer, found.memory.activations)
    assert found.memory.total == sum(parts)
    assert found.duration.steps_timed == 3
    assert (found.duration.steps, found.duration.epochs) == (50, 50.0)
    assert found.duration.total >= 50 * found.duration.step
    assert not (tmp_path / "out").exists()


def test_the_time_of_teachers_counts_as_preparation(tiny_folder: Path, tmp_path: Path) -> None:
    forget, retain = pair_set("forget", 8), pair_set("retain", 6, first_picture=20)
    preparation = []
    for method in ({"name": "vgid-substitute", "teachers": 64}, {"name": "graddiff"}):
        config = UnlearnConfig.model_validate({**CONFIG.model_dump(), "method": method})
        found = estimate(
            UnlearnSpec(str(tiny_folder), "tiny", forget, retain, tmp_path / "out", config=config)
        ).duration
        assert found.total >= found.preparation + 50 * found.step
        preparation.append(found.preparation)
    assert preparation[0] > 10 * preparation[1], "64 teachers of 8 pairs against none"


def test_a_methods_setup_counts_as_preparation(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept = 0.0

    def slow(settings: AnyMethod, context: MethodContext) -> MakeUpdates:
        nonlocal slept
        slept += 1000.0
        return setup(settings, context)

    monkeypatch.setattr(dry_run, "setup", slow)
    monkeypatch.setattr(loop, "setup", slow)
    now = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: now() + slept)
    found = estimated(tiny_folder, tmp_path / "out", pair_set("forget", 18)).duration
    assert 1000 <= found.preparation < 1900
    assert found.step < 900


@pytest.mark.parametrize(
    ("method", "training", "expected"),
    [
        ({"name": "vgid-substitute", "neighbour_pairs": 0}, {"steps": 6}, 6 * 4),
        ({"name": "kl-min"}, {"steps": 10}, 10 * 4),
        ({"name": "graddiff"}, {"steps": 6}, 0),
    ],
)
def test_teacher_states_of_retain_pairs_count_as_preparation(
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: dict[str, object],
    training: dict[str, int],
    expected: int,
) -> None:
    passed, teacher = 0, PackedModel.states

    def slow(model: PackedModel, examples: Sequence[DistillExample], side: Side, cacheable: bool = False) -> Tensor:
        nonlocal passed
        passed += len(examples) if cacheable else 0
        return teacher(model, examples, side, cacheable)

    monkeypatch.setattr(PackedModel, "states", slow)
    now = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: now() + 1000.0 * passed)
    forget, retain = pair_set("forget", 40), pair_set("retain", 40, first_picture=50)
    batches = {"forget_batch_size": 4, "retain_batch_size": 4, "micro_batch_size": 4}
    config = UnlearnConfig.model_validate(
        {**CONFIG.model_dump(), "method": method, "training": batches | training, "seed": 1}
    )
    found = estimate(UnlearnSpec(str(tiny_folder), "tiny", forget, retain, tmp_path / "out", config=config)).duration
    assert found.preparation == pytest.approx(1000 * expected, rel=0.05, abs=900)
    assert found.step < 900


def test_smaller_micro_batches_need_less_memory(tiny_folder: Path, tmp_path: Path) -> None:
    forget = pair_set("forget", 4)
    large, small = (estimated(tiny_folder, tmp_path, forget, size).memory.activations for size in (4, 2))
    assert 0 < small < large


def test_an_estimate_says_what_a_run_would_say_of_its_forget_set(
    tiny_folder: Path, knowing_folder: Path, tmp_path: Path
) -> None:
    def unknown(model: Path, forget: PairSet) -> str | None:
        run = UnlearnSpec(str(model), "tiny", forget, RETAIN, tmp_path, unseen=UNSEEN, config=CONFIG)
        return estimate(run).unknown

    assert unknown(knowing_folder, FORGET) is None
    assert str(unknown(tiny_folder, FORGET)).startswith("The model doesn't know these answers: ")
    common = PairSet.of("forget", COMMON.pairs[-2:])
    assert str(unknown(knowing_folder, common)).startswith("The model gives these answers on other people's photos")
