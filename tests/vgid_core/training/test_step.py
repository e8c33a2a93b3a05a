"""Updates: micro-batches, memory that runs out, and losses that aren't finite."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tests.vgid_core.support.memory_limits import small_memory
from tests.vgid_core.support.students import FORGET, RETAIN, SCORERS, MakeScorer, vgid_config
from vgid_core.config import LoraSettings, UnlearnConfig
from vgid_core.data.examples import DistillExample
from vgid_core.errors import TrainingDiverged
from vgid_core.lora.attach import attach_adapter
from vgid_core.methods import setup
from vgid_core.methods.base import MethodContext
from vgid_core.models.base import BaseModel
from vgid_core.models.load import load_base
from vgid_core.scoring.padded import PaddedScorer
from vgid_core.scoring.scorer import Scorer
from vgid_core.training.loop import distil
from vgid_core.training.step import UpdateRunner


def test_a_loss_that_is_not_finite_ends_the_run_before_an_update(base: BaseModel) -> None:
    with torch.no_grad():
        base.model.get_output_embeddings().weight[0, 0] = float("nan")
    with pytest.raises(TrainingDiverged):
        distil(base, FORGET, RETAIN, vgid_config())


def trained(base: BaseModel, scorer: Scorer, settings: UnlearnConfig) -> tuple[UpdateRunner, list[torch.Tensor]]:
    """The updates of two steps on the same batches."""
    torch.manual_seed(0)
    student = attach_adapter(base, LoraSettings())
    runner = UpdateRunner(scorer, student, settings)
    updates = setup(settings.method, MethodContext(base, scorer, settings.training, settings.seed, FORGET, RETAIN))
    for _ in range(2):
        for update in updates(FORGET.pairs, RETAIN.pairs):
            runner.update(update)
    return runner, [p.detach().clone() for p in student.parameters() if p.requires_grad]


@pytest.mark.parametrize("method", ["vgid", "vgid-substitute"])
@pytest.mark.parametrize("make", SCORERS, ids=["padded", "packed"])
def test_out_of_memory_a_run_goes_on_with_smaller_micro_batches(
    tiny_folder: Path, make: MakeScorer, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = with_method(method, vgid_config(micro_batch_size=16))
    bases = [load_base(str(tiny_folder), settings) for _ in range(2)]
    sizes: list[int] = []
    shrunk, one = trained(bases[0], small_memory(make(bases[0]), 2, sizes), settings)
    small, other = trained(bases[1], make(bases[1]), with_method(method, vgid_config(micro_batch_size=2)))
    # The default method computes its targets in batches of the configured size, which round differently.
    tolerance = 0.0 if method == "vgid" else 1e-4
    assert all(torch.allclose(a, b, rtol=0, atol=tolerance) for a, b in zip(one, other, strict=True))
    assert shrunk.micro_batch_size == small.micro_batch_size == 2
    # The update's whole batch, its half, and from then on two examples at a time.
    assert sizes[:4] == [8, 4, 2, 2]
    assert sizes.count(8) == sizes.count(4) == 1
    assert [record.args for record in caplog.records if "out of memory" in record.message] == [(4,), (2,)]


def with_method(name: str, settings: UnlearnConfig) -> UnlearnConfig:
    """The settings with another method that adds no neighbours, so that batches are those given."""
    own = {"name": name, "neighbour_pairs": 0} if name == "vgid-substitute" else {"name": name}
    return UnlearnConfig.model_validate(settings.model_dump(exclude={"method"}) | {"method": own})


def test_an_update_starts_over_where_memory_runs_out_halfway(tiny_folder: Path) -> None:
    """Gradients accumulated before are cleared, so that none counts twice."""
    settings = vgid_config(micro_batch_size=4)
    bases = [load_base(str(tiny_folder), settings) for _ in range(2)]
    scorer = PaddedScorer(bases[0])
    divergence, calls = scorer.divergence, []

    def once(examples: Sequence[DistillExample]) -> torch.Tensor:
        calls.append(len(examples))
        if len(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return divergence(examples)

    scorer.divergence = once  # type: ignore[method-assign]
    _, one = trained(bases[0], scorer, settings)
    _, other = trained(bases[1], PaddedScorer(bases[1]), vgid_config(micro_batch_size=2))
    assert calls[:3] == [4, 4, 2]
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_an_update_is_not_retried_after_its_reduction(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that reduced twice would be out of step with the others."""
    sums = []

    def full(_gradients: Sequence[torch.Tensor]) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("vgid_core.models.distributed.all_reduce", sums.append)
    monkeypatch.setattr("torch.nn.utils.get_total_norm", full)
    with pytest.raises(torch.OutOfMemoryError):
        trained(base, PaddedScorer(base), vgid_config(micro_batch_size=4))
    assert len(sums) == 1
