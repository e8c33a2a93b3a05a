"""How a packaged adapter says that it is to be served."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.vgid_core.cli.conftest import Place, make_place
from tests.vgid_core.cli.conftest import invoke as run_command
from vgid_core.cli.unlearn import unlearn
from vgid_core.config import LoraSettings
from vgid_core.data.file_digest import file_digest
from vgid_core.serving.hints import serving_warnings


@pytest.fixture
def place(tmp_path: Path, tiny_folder: Path) -> Place:
    return make_place(tmp_path / "place", tiny_folder)


def test_the_name_carries_the_digest(place: Place) -> None:
    result = run_command(unlearn, place.file, "--model-name", "Acme/Tiny LLaVA_1.5")
    assert result.exit_code == 0, result.output
    assert "warning" not in result.stderr
    manifest = json.loads((place.out / "manifest.json").read_text(encoding="utf-8"))
    digest = file_digest(place.out / "adapter_model.safetensors")
    assert manifest["serving"] == {"name": f"vgid-acme-tiny-llava_1.5-{digest[:12]}", "warnings": []}
    readme = (place.out / "README.md").read_text(encoding="utf-8")
    name = manifest["serving"]["name"]
    assert f"--enable-lora --max-lora-rank 16 --lora-modules {name}=" in readme
    assert f"transformers serve {name}" in readme
    assert f"vgid verify-serving --endpoint http://localhost:8000 --adapter {name} --pairs" in readme
    assert "Mind" not in readme


def test_what_servers_wont_take_is_said_before_the_run_and_in_the_folder(place: Place) -> None:
    settings = ("--set", "lora.rank=24", "--set", "lora.scope=language+vision")
    result = run_command(unlearn, place.file, *settings)
    assert result.exit_code == 0, result.output
    rank, vision = result.stderr.splitlines()[:2]
    assert rank.startswith("warning: the adapter's rank 24 is above 16, the most that vLLM takes by default: ")
    assert vision.startswith("warning: the adapter changes vision layers, which vLLM leaves out without an error: ")
    manifest = json.loads((place.out / "manifest.json").read_text(encoding="utf-8"))
    assert [warning in result.stderr for warning in manifest["serving"]["warnings"]] == [True, True]
    readme = (place.out / "README.md").read_text(encoding="utf-8")
    assert all(warning in readme for warning in manifest["serving"]["warnings"])
    assert "--max-lora-rank 32" in readme
    dry = run_command(unlearn, place.file, *settings, "--dry-run")
    assert dry.stderr.startswith("warning: the adapter's rank 24 is above 16")


@pytest.mark.parametrize(("rank", "asked"), [(17, 32), (64, 64), (65, 128), (256, 256)])
def test_the_rank_is_one_that_vllm_takes(rank: int, asked: int) -> None:
    [warning] = serving_warnings(LoraSettings(rank=rank))
    assert f"--max-lora-rank {asked}," in warning.advice
    assert serving_warnings(LoraSettings(rank=16)) == ()
