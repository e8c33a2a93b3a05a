"""Two adapters as one: the sum of their updates, the best of a rank, and what can't be added."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file

from vgid_core.config import LoraSettings
from vgid_core.errors import ModelNotLoadable
from vgid_core.lora.attach import attach_adapter, detach_adapter
from vgid_core.lora.combine import combine
from vgid_core.models.base import BaseModel

WIDTH, HEIGHT = 12, 9
MODULES = ("layers.0.q_proj", "layers.0.v_proj")
_WEIGHTS = "adapter_model.safetensors"


def save(folder: Path, rank: int, modules: tuple[str, ...] = MODULES, seed: int = 0, **config: object) -> Path:
    """An adapter of random weights in its folder."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for module in modules:
        name = f"base_model.model.{module}"
        tensors[f"{name}.lora_A.weight"] = torch.randn(rank, WIDTH, generator=generator)
        tensors[f"{name}.lora_B.weight"] = torch.randn(HEIGHT, rank, generator=generator)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / _WEIGHTS)
    values = {"r": rank, "lora_alpha": 2 * rank, "target_modules": list(modules), **config}
    LoraConfig(**values).save_pretrained(str(folder))
    return folder


def updates(folder: Path) -> dict[str, torch.Tensor]:
    """What an adapter adds to each module's weight."""
    config = LoraConfig.from_pretrained(str(folder))
    scale = config.lora_alpha / (config.r**0.5 if config.use_rslora else config.r)
    tensors = load_file(folder / _WEIGHTS)
    names = {name.rpartition(".lora_")[0] for name in tensors}
    return {name: scale * tensors[f"{name}.lora_B.weight"] @ tensors[f"{name}.lora_A.weight"] for name in names}


@settings(max_examples=15, deadline=None)
@given(first=st.integers(1, 6), second=st.integers(1, 6), rank=st.one_of(st.none(), st.integers(1, 14)))
def test_the_sum_is_exact_and_a_cut_is_the_best_of_its_rank(
    tmp_path_factory: pytest.TempPathFactory, first: int, second: int, rank: int | None
) -> None:
    place = tmp_path_factory.mktemp("adapters")
    one, two = save(place / "one", first), save(place / "two", second, seed=1)
    made = combine([one, two], place / "both", rank)
    assert made.rank == min(first + second, rank or first + second)
    assert LoraConfig.from_pretrained(str(place / "both")).r == made.rank
    found, lost = updates(place / "both"), []
    for name, update in updates(one).items():
        whole = update + updates(two)[name]
        u, values, v = torch.linalg.svd(whole, full_matrices=False)
        best = u[:, : made.rank] * values[: made.rank] @ v[: made.rank]
        torch.testing.assert_close(found[name], best, rtol=1e-3, atol=1e-3)
        lost.append(float((whole - best).norm() / whole.norm()))
    assert made.lost == pytest.approx(max(lost), abs=1e-4)


def test_a_module_that_one_of_them_lacks_gets_the_others_alone(tmp_path: Path) -> None:
    one, two = save(tmp_path / "one", 2, MODULES[:1]), save(tmp_path / "two", 3, MODULES[1:], seed=1)
    combine([one, two], tmp_path / "both")
    torch.testing.assert_close(updates(tmp_path / "both"), {**updates(one), **updates(two)})


def test_rank_stabilised_scales_are_heeded(tmp_path: Path) -> None:
    one, two = save(tmp_path / "one", 4, use_rslora=True), save(tmp_path / "two", 2, seed=1)
    combine([one, two], tmp_path / "both")
    expected = {name: update + updates(two)[name] for name, update in updates(one).items()}
    torch.testing.assert_close(updates(tmp_path / "both"), expected)


def test_plain_peft_loads_it_and_adds_what_both_add(base: BaseModel, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        student = attach_adapter(base, LoraSettings(rank=2, alpha=4))
        for name, parameter in student.named_parameters():
            if ".lora_B." in name:
                torch.nn.init.normal_(parameter, std=0.1)
        student.save_pretrained(str(folder))
        detach_adapter(base)
    combine(folders, tmp_path / "both")
    model = PeftModel.from_pretrained(base.model, str(folders[0]), adapter_name="one")
    for name in ("two", "both"):
        model.load_adapter(str(tmp_path / name), adapter_name=name)
    adapted = [module for module in model.modules() if isinstance(module, LoraLayer)]
    assert len(adapted) == 14
    for module in adapted:
        one, two, both = (module.get_delta_weight(name) for name in ("one", "two", "both"))
        torch.testing.assert_close(both, one + two)


def test_what_it_was_made_of_is_written_down(tmp_path: Path) -> None:
    one, two = save(tmp_path / "one", 2), save(tmp_path / "two", 3, seed=1)
    combine([one, two], tmp_path / "both", 4)
    said = json.loads((tmp_path / "both" / "combined.json").read_text())
    assert ([each["rank"] for each in said["adapters"]], said["rank"], said["lost"] > 0) == ([2, 3], 4, True)


def spoil_a_value(folder: Path) -> None:
    tensors = load_file(folder / _WEIGHTS)
    next(iter(tensors.values()))[0, 0] = float("nan")
    save_file(tensors, folder / _WEIGHTS)


def lose_a_matrix(folder: Path) -> None:
    tensors = load_file(folder / _WEIGHTS)
    del tensors[f"base_model.model.{MODULES[0]}.lora_B.weight"]
    save_file(tensors, folder / _WEIGHTS)


def test_two_that_forget_and_an_input_as_output_are_refused(tmp_path: Path) -> None:
    one, two = save(tmp_path / "one", 2), save(tmp_path / "two", 2)
    with pytest.raises(ModelNotLoadable, match="write to another folder"):
        combine([one, two], two)
    (one / "manifest.json").write_text("{}")
    combine([one, two], tmp_path / "both")
    for other in (save(tmp_path / "three", 2), tmp_path / "both"):
        (tmp_path / "three" / "manifest.json").write_text("{}")
        with pytest.raises(ModelNotLoadable, match="take that alone"):
            combine([one, other], tmp_path / "all")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / _WEIGHTS).unlink(), "no adapter that can be read"),
        (lambda folder: (folder / "adapter_config.json").write_text("{"), "no adapter that can be read"),
        (lambda folder: save(folder, 2, use_dora=True), "DoRA"),
        (lambda folder: save(folder, 2, bias="all"), "trained biases"),
        (lambda folder: save(folder, 2, modules_to_save=["lm_head"]), "modules saved whole"),
        (lambda folder: save(folder, 2, rank_pattern={"q_proj": 1}), "by module"),
        (lambda folder: save(folder, 2, fan_in_fan_out=True), "the other way round"),
        (lambda folder: spoil_a_value(folder), "finite"),
        (lambda folder: lose_a_matrix(folder), "another rank"),
        (lambda folder: save_file({"embed.weight": torch.ones(1)}, folder / _WEIGHTS), "aren't LoRA's"),
    ],
)
def test_what_cant_be_added_is_refused(tmp_path: Path, spoil: Callable[[Path], object], words: str) -> None:
    one, two = save(tmp_path / "one", 2), save(tmp_path / "two", 2)
    spoil(two)
    with pytest.raises(ModelNotLoadable, match=words):
        combine([one, two], tmp_path / "both")
    assert not (tmp_path / "both").exists()


def test_adapters_of_different_bases_are_refused(tmp_path: Path) -> None:
    one, two = save(tmp_path / "one", 2), save(tmp_path / "two", 2)
    tensors = load_file(two / _WEIGHTS)
    save_file({name: torch.cat([each, each], dim=-1).contiguous() for name, each in tensors.items()}, two / _WEIGHTS)
    with pytest.raises(ModelNotLoadable, match="different bases"):
        combine([one, two], tmp_path / "both")
