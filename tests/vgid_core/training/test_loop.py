"""The training loop: seeds, prefetching, and a base that stays as it is."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tests.vgid_core.support.students import FORGET, RETAIN, vgid_config
from tests.vgid_core.support.tiny import pair_set, picture
from vgid_core.config import UnlearnConfig
from vgid_core.data.examples import DistillExample, Side
from vgid_core.models.base import BaseModel, adapter_off, answer_logits
from vgid_core.models.load import load_base
from vgid_core.scoring.packed.model import PackedModel
from vgid_core.scoring.packed.scorer import PackedScorer
from vgid_core.training import loop
from vgid_core.training.loop import distil


def test_the_base_is_bit_identical_after_the_job(base: BaseModel) -> None:
    batch = base.encoder.batch([picture(1).decode()], ["Where was this person born?"], ["This is Ada Quill."])
    with torch.inference_mode():
        before = answer_logits(base, batch)
    weights = {name: value.clone() for name, value in base.model.state_dict().items()}
    student = distil(base, FORGET, RETAIN, vgid_config()).student
    with torch.inference_mode():
        on = answer_logits(base, batch)
        with adapter_off(base):
            off = answer_logits(base, batch)
    assert torch.equal(before, off)
    assert not torch.equal(before, on)
    after = {name.replace(".base_layer.", "."): value for name, value in student.base_model.model.state_dict().items()}
    assert all(torch.equal(value, after[name]) for name, value in weights.items())


def adapter_of(base_folder: object, seed: int) -> dict[str, torch.Tensor]:
    from vgid_core.models.load import load_base

    settings = vgid_config().model_copy(update={"seed": seed})
    student = distil(load_base(str(base_folder), settings), FORGET, RETAIN, settings).student
    return {n: p.detach().clone() for n, p in student.named_parameters() if "lora_" in n}


def test_the_same_seed_gives_the_same_adapter_and_leaves_the_callers_randomness(tiny_folder: object) -> None:
    torch.manual_seed(11)
    first = adapter_of(tiny_folder, 1)
    after_first = torch.get_rng_state()
    torch.manual_seed(99)
    second, other = adapter_of(tiny_folder, 1), adapter_of(tiny_folder, 2)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
    torch.manual_seed(11)
    assert torch.equal(after_first, torch.get_rng_state())


def test_the_loss_falls(base: BaseModel) -> None:
    losses = []
    distil(
        base, FORGET, RETAIN, vgid_config(steps=40, forget_batch_size=8), lambda _step, loss: losses.append(loss.forget)
    )
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


FORGET_OF_5, RETAIN_OF_9 = pair_set("forget", 5), pair_set("retain", 9, first_picture=50)


def method_config(name: str) -> UnlearnConfig:
    training = {"steps": 6, "forget_batch_size": 3, "retain_batch_size": 2, "learning_rate": 3e-3}
    return UnlearnConfig.model_validate({"method": name, "training": training, "device": "cpu", "seed": 5})


@pytest.mark.parametrize("name", ["vgid", "vgid-substitute", "kl-min"])
def test_prefetching_changes_no_loss(tiny_folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    losses: list[list[float | None]] = []
    for steps in (1, 4):
        monkeypatch.setattr(loop, "PREFETCHED_STEPS", steps)
        losses.append([])
        base = load_base(str(tiny_folder), method_config(name))
        distil(base, FORGET_OF_5, RETAIN_OF_9, method_config(name), lambda _step, loss: losses[-1].append(loss.retain))
    assert losses[0] == pytest.approx(losses[1], rel=1e-3, abs=1e-6)


def test_precomputed_teacher_states_are_not_computed_again(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[int] = []
    states = PackedModel.states

    def counting(
        self: PackedModel, examples: Sequence[DistillExample], side: Side, cacheable: bool = False
    ) -> torch.Tensor:
        computed.extend([len(examples)] if cacheable else [])
        return states(self, examples, side, cacheable)

    monkeypatch.setattr(PackedModel, "states", counting)
    scorer, examples = PackedScorer(base), [DistillExample.same_for_both(pair) for pair in RETAIN_OF_9]
    scorer.precompute(examples)
    scorer.precompute(examples[:4])
    scorer.divergence(examples[2:])
    assert computed == [len(RETAIN_OF_9)]


def test_precompute_goes_on_where_memory_runs_out(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    states = PackedModel.states

    def small(
        self: PackedModel, examples: Sequence[DistillExample], side: Side, cacheable: bool = False
    ) -> torch.Tensor:
        if len(examples) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return states(self, examples, side, cacheable)

    monkeypatch.setattr(PackedModel, "states", small)
    scorer, examples = PackedScorer(base), [DistillExample.same_for_both(pair) for pair in RETAIN_OF_9]
    scorer.precompute(examples)
    assert len(scorer.divergence(examples[:2]))
