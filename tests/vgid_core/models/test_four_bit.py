"""Base weights in NF4."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file
from torch import nn

from tests.vgid_core.support.runs import CONFIG, changed, spec
from tests.vgid_core.support.tiny_qwen import save_tiny_qwen
from vgid_core import Progress, unlearn
from vgid_core.errors import ModelNotLoadable
from vgid_core.models.base import answer_logits
from vgid_core.models.load import load_base, read_base
from vgid_core.scoring.padded import encode_pairs


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
    reports: list[Progress] = []
    run = spec(tiny_folder, tmp_path / "out", config=config)
    result = unlearn(run, reports.append)
    losses = [p.loss_forget for p in reports if p.loss_forget is not None]
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


def test_four_bit_weights_need_their_library(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vgid_core.models.four_bit.find_spec", lambda _name: None)
    with pytest.raises(ModelNotLoadable, match=r"\.\[gpu\]"):
        load_base(str(tiny_folder), changed(CONFIG, base_weights="nf4"))
