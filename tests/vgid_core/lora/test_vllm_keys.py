"""vLLM finds a module for each weight of our adapters; where it finds none, it says nothing and serves the base."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import safe_open

from tests.vgid_core.support.tiny import save_tiny_model
from tests.vgid_core.support.tiny_qwen import save_tiny_qwen, save_tiny_qwen2
from tests.vgid_core.support.vllm_rules import LLAVA, QWEN2_5_VL, QWEN2_VL, ServedModel
from vgid_core import UnlearnConfig
from vgid_core.artifact import write_adapter
from vgid_core.config import LoraSettings
from vgid_core.lora.attach import attach_adapter
from vgid_core.models.load import load_base

SERVED = [
    pytest.param(save_tiny_model, LLAVA, id="llava"),
    pytest.param(save_tiny_qwen2, QWEN2_VL, id="qwen2_vl"),
    pytest.param(save_tiny_qwen, QWEN2_5_VL, id="qwen2_5_vl"),
]


def written_keys(save: Callable[[Path], Path], folder: Path, lora: LoraSettings) -> set[str]:
    """The keys of the file that a run writes for such an adapter."""
    base = load_base(str(save(folder / "model")), UnlearnConfig(device="cpu"))
    write_adapter(attach_adapter(base, lora), folder / "adapter", "tiny")
    with safe_open(folder / "adapter" / "adapter_model.safetensors", "pt") as weights:
        return set(weights.keys())


@pytest.mark.parametrize(("save", "served"), SERVED)
def test_every_weight_of_the_language_tower_is_applied(
    save: Callable[[Path], Path], served: ServedModel, tmp_path: Path
) -> None:
    keys = written_keys(save, tmp_path, LoraSettings())
    assert served.refused(keys) == set()
    assert served.applied(keys) == keys
    assert {served.module_of(key) for key in keys} == served.language


@pytest.mark.parametrize(("save", "served"), SERVED)
def test_vision_layers_are_left_out_without_an_error(
    save: Callable[[Path], Path], served: ServedModel, tmp_path: Path
) -> None:
    """So a run warns of them, although the server takes the adapter."""
    keys = written_keys(save, tmp_path, LoraSettings(scope="language+vision"))
    assert served.refused(keys) == set()
    assert served.applied(keys) == {key for key in keys if ".language_model." in key} != keys


@pytest.mark.parametrize(
    ("save", "served", "lost"),
    [
        # transformers' `vision_tower.encoder` is `vision_tower.vision_model.encoder` on the server.
        pytest.param(save_tiny_model, LLAVA, ".vision_tower.", id="llava"),
        # A linear layer in transformers, a convolution on the server.
        pytest.param(save_tiny_qwen2, QWEN2_VL, ".visual.patch_embed.", id="qwen2_vl"),
        pytest.param(save_tiny_qwen, QWEN2_5_VL, ".visual.patch_embed.", id="qwen2_5_vl"),
    ],
)
def test_the_servers_own_option_doesnt_reach_all_vision_layers(
    save: Callable[[Path], Path], served: ServedModel, lost: str, tmp_path: Path
) -> None:
    keys = written_keys(save, tmp_path, LoraSettings(scope="language+vision"))
    left_out = keys - served.applied(keys, whole=True)
    assert left_out == {key for key in keys if lost in key} != set()


def test_keys_of_another_wrapper_would_be_noticed() -> None:
    """Names as an adapter of the bare model has them: taken, and left out."""
    keys = {"base_model.model.language_model.layers.0.self_attn.q_proj.lora_A.weight"}
    assert LLAVA.refused(keys) == LLAVA.applied(keys) == set()
    assert LLAVA.refused({"base_model.model.model.language_model.layers.0.self_attn.wq.lora_A.weight"})
