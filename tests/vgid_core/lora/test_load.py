"""Finished adapters, read back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.vgid_core.support.tiny import pair_set, save_tiny_model
from vgid_core import UnlearnConfig, UnlearnSpec, unlearn
from vgid_core.errors import ModelNotLoadable
from vgid_core.lora.load import is_for_other_base, load_adapter
from vgid_core.models.base import BaseModel
from vgid_core.models.load import load_base


def made(model: Path, out: Path, scope: str) -> Path:
    training = {"steps": 1, "forget_batch_size": 2, "retain_batch_size": 2}
    evaluation = {"max_new_tokens": 2, "audits": "none"}
    config = {"device": "cpu", "lora": {"scope": scope}, "training": training, "evaluation": evaluation}
    sets = pair_set("forget", 2), pair_set("retain", 2, first_picture=20)
    return unlearn(UnlearnSpec(str(model), "tiny", *sets, out, config=UnlearnConfig.model_validate(config))).folder


@pytest.fixture(scope="module")
def adapter(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tiny_folder, tmp_path_factory.mktemp("adapter") / "adapter", "language")


def test_what_it_adapts_is_seen_from_its_layers(
    base: BaseModel, tiny_folder: Path, adapter: Path, tmp_path: Path
) -> None:
    assert load_adapter(base, adapter).scope == "language"
    fresh = load_base(str(tiny_folder), UnlearnConfig(device="cpu"))
    assert load_adapter(fresh, made(tiny_folder, tmp_path / "both", "language+vision")).scope == "language+vision"


def test_another_base_is_recognised_by_the_manifest(base: BaseModel, adapter: Path, tmp_path: Path) -> None:
    other = load_base(str(save_tiny_model(tmp_path / "other", seed=1)), UnlearnConfig(device="cpu"))
    assert not is_for_other_base(base, adapter)
    assert is_for_other_base(other, adapter)
    assert not is_for_other_base(other, tmp_path), "nobody can tell without a manifest"
    (tmp_path / "manifest.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ModelNotLoadable, match="manifest that can't be read"):
        is_for_other_base(other, tmp_path)


@pytest.mark.parametrize("kept", [0, 40, -1])
def test_cut_off_weights_are_named(base: BaseModel, adapter: Path, tmp_path: Path, kept: int) -> None:
    (tmp_path / "adapter_config.json").write_bytes((adapter / "adapter_config.json").read_bytes())
    weights = (adapter / "adapter_model.safetensors").read_bytes()
    (tmp_path / "adapter_model.safetensors").write_bytes(weights[:kept])
    with pytest.raises(ModelNotLoadable, match=r"is damaged: its adapter_model\.safetensors can't be read$"):
        load_adapter(base, tmp_path)


def test_half_an_adapter_is_refused(base: BaseModel, adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotLoadable, match=r"holds no adapter_config\.json"):
        load_adapter(base, tmp_path)
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    (tmp_path / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    weights = load_file(adapter / "adapter_model.safetensors")
    weights.pop(next(iter(weights)))
    save_file(weights, tmp_path / "adapter_model.safetensors")
    with pytest.raises(ModelNotLoadable, match="doesn't fit the model"):
        load_adapter(base, tmp_path)
