"""Fewer bits: products in fp8 while distilling, base weights in NF4. The same job, rounded."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file
from torch import nn

from tests.vgid_core.test_unlearn import CONFIG, spec
from tests.vgid_core.tiny import pair_set
from tests.vgid_core.tiny_qwen import save_tiny_qwen
from vgid_core import Progress, UnlearnConfig, unlearn
from vgid_core.errors import ModelNotLoadable, ModelNotSupported
from vgid_core.lora.fp8 import RowScaled
from vgid_core.lora.fused_product import fp8_products, fuse_lora
from vgid_core.models.base import BaseModel, adapter_off, answer_logits
from vgid_core.models.load import load_base, read_base
from vgid_core.scoring.padded import encode_pairs
from vgid_core.training.loop import distil


def changed(config: UnlearnConfig, **values: object) -> UnlearnConfig:
    return UnlearnConfig.model_validate(config.model_dump() | values)


def with_fp8(config: UnlearnConfig) -> UnlearnConfig:
    return changed(config, training=config.training.model_dump() | {"fp8": True})


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


def test_the_same_target_is_quantized_in_each_family(tiny_folder: Path, tmp_path: Path) -> None:
    for folder in (tiny_folder, save_tiny_qwen(tmp_path / "qwen")):
        base = load_base(str(folder), changed(CONFIG, base_weights="nf4"))
        four_bit = {name for name, module in base.model.named_modules() if type(module).__name__ == "Linear4bit"}
        decoder = {id(module) for module in base.model.get_decoder().modules()}
        linear = {name for name, m in base.model.named_modules() if isinstance(m, nn.Linear) and id(m) in decoder}
        assert four_bit == linear
        assert four_bit


def test_a_job_on_four_bit_weights_learns(tiny_folder: Path, tmp_path: Path) -> None:
    config = changed(CONFIG, base_weights="nf4", training=CONFIG.training.model_dump() | {"steps": 10})
    heard: list[Progress] = []
    run = spec(tiny_folder, tmp_path / "out", config=config)
    result = unlearn(run, heard.append)
    losses = [p.loss_forget for p in heard if p.loss_forget is not None]
    assert losses[-1] < losses[0]
    manifest = json.loads((run.out / "manifest.json").read_text())
    assert manifest["scorer"] == "packed"
    assert manifest["config"]["base_weights"] == "nf4"
    assert result.metrics_before != result.metrics_after


def test_plain_peft_puts_the_adapter_onto_a_fresh_base_in_four_bits(tiny_folder: Path, tmp_path: Path) -> None:
    config = changed(CONFIG, base_weights="nf4")
    fresh, host = load_base(str(tiny_folder), config), read_base(str(tiny_folder), config)
    run = spec(tiny_folder, tmp_path / "out", config=config)
    batch = encode_pairs(fresh, run.forget.pairs)
    with torch.no_grad():
        own = answer_logits(fresh, batch)
    unlearn(run, base=replace(host))  # a holder of its own, which the run empties

    # The model that the run used up carries the adapter; switched off, it is the base to the last bit.
    used = load_base(str(tiny_folder), config, host)
    adapted = [module for module in used.model.modules() if isinstance(module, BaseTunerLayer)]
    assert {module.base_layer.weight.quant_type for module in adapted} == {"nf4"}
    with torch.no_grad():
        taught = answer_logits(used, batch)
        for module in adapted:
            module.enable_adapters(False)
        assert torch.equal(answer_logits(used, batch), own)
    matrices = load_file(run.out / "adapter_model.safetensors")
    moved = [bool(matrix.any()) for name, matrix in matrices.items() if ".lora_B." in name]
    assert len(moved) == len(adapted) > 0
    assert all(moved)

    loaded = PeftModel.from_pretrained(fresh.model, run.out).eval()
    with torch.no_grad():
        theirs = loaded(**batch.inputs, logits_to_keep=own.shape[1] + 1, use_cache=False).logits[:, :-1]
    assert torch.allclose(theirs, taught, atol=1e-4)
    assert not torch.allclose(own, taught, atol=1e-2)


def test_a_kernel_that_is_never_used_is_no_warning_and_others_stay(caplog: pytest.LogCaptureFixture) -> None:
    """As bitsandbytes says it when PEFT imports it, on CPUs with AVX512-BF16."""
    log = logging.getLogger("bitsandbytes.backends.cpu.ops")
    log.warning("Failed to load CPU gemm_4bit_forward from kernels-community: %s. Please make sure", "no kernels")
    log.warning("Failed to load something else: %s", "why")
    assert caplog.messages == ["Failed to load something else: why"]


def test_it_is_left_out_before_peft_is_imported() -> None:
    code = "import vgid_core.models.base, sys; assert 'peft' in sys.modules"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "gemm_4bit_forward" not in ran.stderr


def test_four_bit_weights_need_their_library(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vgid_core.models.four_bit.find_spec", lambda _name: None)
    with pytest.raises(ModelNotLoadable, match=r"\.\[gpu\]"):
        load_base(str(tiny_folder), changed(CONFIG, base_weights="nf4"))


@pytest.mark.parametrize("changes", [{"lora": {"dropout": 0.1}}, {"base_weights": "nf4"}])
def test_fp8_where_it_would_change_nothing_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="fp8"):
        changed(with_fp8(CONFIG), **changes)
