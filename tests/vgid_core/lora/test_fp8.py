"""Products in fp8 while distilling."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import nn

from tests.vgid_core.support.runs import CONFIG, changed, with_fp8
from tests.vgid_core.support.tiny import pair_set
from vgid_core.errors import ModelNotSupported
from vgid_core.lora.fp8 import RowScaled
from vgid_core.lora.fused_product import fp8_products, fuse_lora
from vgid_core.models.base import BaseModel, adapter_off, answer_logits
from vgid_core.training.loop import distil


@settings(max_examples=25)
@given(st.integers(0, 99), st.booleans())
def test_fp8_products_are_those_of_the_rounded_matrices(seed: int, bias: bool) -> None:
    """Against matrices rounded here and multiplied in full precision, forwards and backwards."""
    torch.manual_seed(seed)
    model = nn.ModuleDict({"projection": nn.Linear(32, 48, bias=bias)})
    student = get_peft_model(model, LoraConfig(r=4, target_modules=["projection"], init_lora_weights=False))
    layer = student.base_model.model["projection"]
    fuse_lora(student)
    x = torch.randn(3, 5, 32, requires_grad=True)
    weights = torch.randn(3, 5, 48)

    def rounded(matrix: torch.Tensor) -> torch.Tensor:
        scales = matrix.abs().amax(-1, keepdim=True) / 448
        return (matrix / scales).to(torch.float8_e4m3fn).float() * scales

    weight = layer.base_layer.weight
    down, up, scale = layer.lora_A["default"].weight, layer.lora_B["default"].weight, layer.scaling["default"]
    expected = rounded(x.detach()) @ rounded(weight).T + scale * (x.detach() @ down.T) @ up.T
    expected = expected + layer.base_layer.bias if bias else expected
    back = rounded(weights) @ rounded(weight.T).T + scale * (weights @ up) @ down
    with fp8_products(student, torch.device("cpu")):
        output = layer(x)
        (output * weights).sum().backward()
        with student.disable_adapter():
            alone = layer(x)
    assert torch.allclose(output, expected, atol=1e-4)
    assert x.grad is not None
    assert torch.allclose(x.grad, back, atol=1e-4)
    assert torch.allclose(alone, expected - scale * (x @ down.T) @ up.T, atol=1e-4)
    assert not torch.allclose(layer(x), output, atol=1e-4), "afterwards the weights are as they were"


def test_a_row_of_zeros_stays_zeros() -> None:
    scaled = RowScaled.of(torch.zeros(2, 8))
    assert scaled.values.float().abs().sum() == 0
    assert scaled.scales.isfinite().all()


def test_a_run_in_fp8_learns_and_leaves_the_base_as_it_was(base: BaseModel) -> None:
    config = with_fp8(changed(CONFIG, method="vgid", training=CONFIG.training.model_dump() | {"steps": 12}))
    forget, retain = pair_set("forget", 4), pair_set("retain", 6, first_picture=20)
    batch = base.encoder.batch([p.image.decode() for p in forget], [p.question for p in forget], ["a"] * 4)
    with torch.no_grad():
        before = answer_logits(base, batch)
    losses: list[float] = []
    distilled = distil(base, forget, retain, config, lambda _step, loss: losses.append(loss.forget))
    assert distilled.scorer == "packed"
    assert losses[-1] < 0.85 * losses[0]
    with torch.no_grad(), adapter_off(base):
        assert torch.equal(answer_logits(base, batch), before)


def test_fp8_is_refused_where_there_is_none(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("torch.nn.functional.scaled_mm")
    with pytest.raises(ModelNotSupported, match="fp8"):
        distil(base, pair_set("forget", 2), pair_set("retain", 2, first_picture=9), with_fp8(CONFIG))
