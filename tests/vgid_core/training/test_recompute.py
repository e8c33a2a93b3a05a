"""Recomputed layers: the same gradients with less memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.vgid_core.families.registry import FAMILIES
from tests.vgid_core.support.students import FORGET, RETAIN, SCORERS, MakeScorer, scrambled_adapter, vgid_config
from tests.vgid_core.support.tiny import pair_set
from vgid_core import UnlearnConfig
from vgid_core.config import LoraSettings
from vgid_core.data.examples import DistillExample
from vgid_core.lora.attach import require_trained
from vgid_core.methods import setup
from vgid_core.methods.base import MethodContext
from vgid_core.models.base import BaseModel
from vgid_core.models.load import load_base
from vgid_core.scoring.choose import choose_scorer
from vgid_core.scoring.packed.scorer import PackedScorer
from vgid_core.scoring.padded import PaddedScorer
from vgid_core.scoring.scorer import Scorer
from vgid_core.training.loop import distil
from vgid_core.training.recompute import recomputed_layers
from vgid_core.training.step import UpdateRunner


def gradients(
    base: BaseModel, student: torch.nn.Module, scorer: Scorer, settings: UnlearnConfig
) -> dict[str, torch.Tensor]:
    student.zero_grad()
    updates = setup(settings.method, MethodContext(base, scorer, settings.training, settings.seed, FORGET, RETAIN))
    for update in updates(FORGET.pairs, RETAIN.pairs):
        UpdateRunner(scorer, student, settings).accumulate(update)
    return {name: p.grad.clone() for name, p in student.named_parameters() if p.grad is not None}


# PaliGemma's processor makes labels of tensors in a way that NumPy 2 warns of.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
@pytest.mark.parametrize("family", FAMILIES)
def test_recomputed_layers_have_the_same_gradients(family: str, tmp_path: Path) -> None:
    """With both scorers, if the family has both."""
    base = load_base(str(FAMILIES[family](tmp_path / "m")), vgid_config())
    student = scrambled_adapter(base)
    chosen = choose_scorer(base, RETAIN.pairs[:3], LoraSettings())
    for scorer in [chosen] if chosen.name == PaddedScorer.name else [chosen, PaddedScorer(base)]:
        expected = gradients(base, student, scorer, vgid_config())
        passes = count_mlp_calls(base)
        with recomputed_layers(base.model):
            found = gradients(base, student, scorer, vgid_config())
        first, last = passes()
        assert first > last, "the first layer was recomputed, the last one wasn't"
        assert found.keys() == expected.keys()
        assert len(found) == sum(p.requires_grad for p in student.parameters())
        for name, gradient in found.items():
            assert torch.allclose(gradient, expected[name], rtol=1e-5, atol=1e-5), name
        assert all(bool(gradient.any()) for name, gradient in found.items() if ".lora_B." in name)


def count_mlp_calls(base: BaseModel) -> Callable[[], tuple[int, int]]:
    """Counts calls of the first and the last decoder layer's MLP from now on."""
    counts = [0, 0]

    def count(index: int) -> Callable[..., None]:
        def hook(_module: object, _given: object) -> None:
            counts[index] += 1

        return hook

    for index, layer in enumerate((base.model.get_decoder().layers[0], base.model.get_decoder().layers[-1])):
        layer.mlp.register_forward_pre_hook(count(index))
    return lambda: (counts[0], counts[1])


@pytest.mark.parametrize("make", SCORERS, ids=["padded", "packed"])
def test_recomputed_layers_save_fewer_tensors(base: BaseModel, make: MakeScorer) -> None:
    student = scrambled_adapter(base)
    examples = [DistillExample.same_for_both(pair) for pair in RETAIN]
    scorer = make(base)
    kept = []
    for recomputed in (False, True):
        sizes: dict[int, int] = {}

        def pack(tensor: torch.Tensor, sizes: dict[int, int] = sizes) -> torch.Tensor:
            sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            if recomputed:
                with recomputed_layers(base.model):
                    scorer.divergence(examples)
            else:
                scorer.divergence(examples)
        kept.append(sum(sizes.values()))
    assert student is not None
    assert kept[1] < 0.75 * kept[0], "one of two layers keeps its input alone"


@pytest.mark.parametrize("scope", ["language", "language+vision"])
def test_every_recomputed_layer_is_trained(base: BaseModel, scope: str) -> None:
    settings = vgid_config(gradient_checkpointing=True).model_copy(update={"lora": LoraSettings(scope=scope)})
    distilled = distil(base, FORGET, RETAIN, settings)
    modules = require_trained(distilled.student)
    assert {"packed": len(modules) == 14, "padded": len(modules) > 14}[distilled.scorer]
    assert not any("forward" in vars(layer) for layer in base.model.get_decoder().layers), "as they were before"


def test_a_whole_run_is_the_same_with_recomputed_layers(tiny_folder: Path) -> None:
    adapters = []
    for recomputed in (False, True):
        settings = vgid_config(gradient_checkpointing=recomputed)
        base = load_base(str(tiny_folder), settings)
        student = distil(base, pair_set("forget", 4), RETAIN, settings).student
        adapters.append([p.detach() for n, p in student.named_parameters() if "lora_" in n])
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*adapters, strict=True))


def test_fp8_and_recomputed_layers_go_together(base: BaseModel) -> None:
    settings = vgid_config(gradient_checkpointing=True, fp8=True)
    distilled = distil(base, FORGET, RETAIN, settings)
    assert distilled.scorer == PackedScorer.name
    require_trained(distilled.student)
