"""The fused adapter gives PEFT's outputs and gradients; what it doesn't compute stays PEFT's own."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from vgid_core.lora.fused_product import fuse_lora


def adapted(bias: bool, seed: int, **lora: object) -> PeftModel:
    torch.manual_seed(seed)
    model = nn.ModuleDict({"projection": nn.Linear(12, 20, bias=bias)})
    config = LoraConfig(r=3, lora_alpha=7, target_modules=["projection"], init_lora_weights=False, **lora)
    return get_peft_model(model, config)


def layer_of(model: PeftModel) -> nn.Module:
    return model.base_model.model["projection"]


@settings(max_examples=25)
@given(st.integers(0, 99), st.booleans(), st.lists(st.integers(1, 5), min_size=1, max_size=3), st.booleans())
def test_outputs_and_gradients_are_pefts(seed: int, bias: bool, shape: list[int], input_is_trained: bool) -> None:
    model = adapted(bias, seed)
    layer = layer_of(model)
    given_ = torch.randn(*shape, 12, requires_grad=input_is_trained)
    weights = torch.randn(*shape, 20)
    found = []
    for _ in range(2):
        model.zero_grad()
        given_.grad = None
        output = layer(given_)
        (output * weights).sum().backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        found.append([output.detach(), *gradients, *([given_.grad] if input_is_trained else [])])
        fuse_lora(model)
    assert "forward" in vars(layer)
    assert len(found[0]) == len(found[1])
    for pefts, ours in zip(*found, strict=True):
        assert torch.allclose(ours, pefts, atol=1e-5)


def test_switched_off_it_is_the_base_layer_to_the_bit() -> None:
    model = adapted(bias=True, seed=1)
    fuse_lora(model)
    layer = layer_of(model)
    given_ = torch.randn(4, 12)
    with model.disable_adapter():
        assert torch.equal(layer(given_), layer.base_layer(given_))
    assert not torch.allclose(layer(given_), layer.base_layer(given_))


def test_a_merged_adapter_is_not_added_again() -> None:
    model = adapted(bias=True, seed=1)
    fuse_lora(model)
    given_ = torch.randn(4, 12)
    before = layer_of(model)(given_)
    model.merge_adapter()
    assert torch.allclose(layer_of(model)(given_), before, atol=1e-5)


@pytest.mark.parametrize("lora", [{"lora_dropout": 0.5}, {"use_dora": True}, {"lora_bias": True}])
def test_what_it_does_not_compute_stays_pefts(lora: dict[str, object]) -> None:
    model = adapted(bias=True, seed=1, **lora)
    fuse_lora(model)
    assert "forward" not in vars(layer_of(model))
