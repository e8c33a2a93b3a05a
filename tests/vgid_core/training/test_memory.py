"""A run that doesn't fit: the error, and what is freed."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
import torch

from tests.vgid_core.support.memory_limits import small_memory
from tests.vgid_core.support.runs import spec
from tests.vgid_core.support.students import FORGET, RETAIN, vgid_config
from vgid_core import EvaluationSpec, evaluate_adapter, unlearn
from vgid_core.dry_run import estimate
from vgid_core.errors import OutOfMemory
from vgid_core.models.base import BaseModel
from vgid_core.scoring.choose import choose_scorer
from vgid_core.scoring.scorer import Scorer


def test_a_run_ends_where_one_pair_exceeds_memory(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def choose(*given: object, **named: object) -> Scorer:
        return small_memory(choose_scorer(*given, **named), 0, [])  # type: ignore[arg-type]

    monkeypatch.setattr("vgid_core.training.loop.choose_scorer", choose)
    with pytest.raises(OutOfMemory):
        unlearn(spec(tiny_folder, tmp_path / "out", config=vgid_config()))
    assert not (tmp_path / "out").exists()


def measured(model: Path, _out: Path) -> None:
    evaluate_adapter(EvaluationSpec(str(model), None, FORGET, RETAIN, config=vgid_config().with_audits("quick")))


@pytest.mark.parametrize(
    ("module", "call"),
    [
        ("vgid_core.run", lambda model, out: unlearn(spec(model, out, config=vgid_config()))),
        ("vgid_core.dry_run", lambda model, out: estimate(spec(model, out, config=vgid_config()))),
        ("vgid_core.measure", measured),
    ],
    ids=["run", "dry run", "evaluation"],
)
def test_the_out_of_memory_error_keeps_no_tensors_alive(
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    call: Callable[[Path, Path], object],
) -> None:
    """Otherwise the process would have no memory for another try with smaller batches."""
    models = []

    def full(base: BaseModel, *_more: object) -> NoReturn:
        models.append(weakref.ref(base.model))
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(f"{module}.choose_scorer", full)
    with pytest.raises(OutOfMemory) as caught:
        call(tiny_folder, tmp_path / "out")
    assert caught.value.__context__ is None
    assert [model() for model in models] == [None]


def test_the_manifest_has_the_final_micro_batch_size(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def choose(*given: object, **named: object) -> Scorer:
        return small_memory(choose_scorer(*given, **named), 1, [])  # type: ignore[arg-type]

    monkeypatch.setattr("vgid_core.training.loop.choose_scorer", choose)
    manifest = unlearn(spec(tiny_folder, tmp_path / "out", config=vgid_config(micro_batch_size=16))).manifest
    assert (manifest["micro_batch_size"], manifest["config"]["training"]["micro_batch_size"]) == (1, 16)
