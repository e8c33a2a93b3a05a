"""A whole run through the public door, on a real model too small to know anything."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open

from tests.vgid_core.support.runs import CONFIG, spec
from tests.vgid_core.support.tiny import SENTENCES, pair_set, picture, save_tiny_model
from vgid_core import DataError, Pair, PairSet, Progress, unlearn
from vgid_core.data.file_digest import file_digest
from vgid_core.errors import ModelNotLoadable
from vgid_core.models.load import digest_of, load_base, read_base
from vgid_core.training.loop import distil


def test_a_run_from_data_to_adapter(tiny_folder: Path, tmp_path: Path) -> None:
    reports: list[Progress] = []
    rounds = {}
    result = unlearn(
        spec(tiny_folder, tmp_path / "out"), reports.append, lambda stage, rows: rounds.update({stage: rows})
    )
    assert [str(p) for p in dict.fromkeys(p.phase for p in reports)] == [
        "loading", "baseline", "distilling", "evaluating", "packaging"
    ]  # fmt: skip
    fractions = [p.fraction for p in reports]
    assert fractions == sorted(fractions)
    assert [p.step for p in reports if p.phase == "distilling" and p.step] == [1, 2, 3, 4, 5]
    assert all(p.seconds_left is not None for p in reports if p.phase == "distilling" and p.step)
    assert rounds == {"before": result.metrics_before, "after": result.metrics_after}
    assert {m.split for m in result.metrics_after} == {"forget", "retain", "utility", "rephrased"}
    assert all(0 <= m.value <= 1 for m in result.metrics_before + result.metrics_after)
    assert result.metrics_before != result.metrics_after


def test_the_folder_is_an_adapter_with_an_honest_manifest(tiny_folder: Path, tmp_path: Path) -> None:
    run = spec(tiny_folder, tmp_path / "out")
    unlearn(run)
    names = sorted(file.name for file in run.out.iterdir())
    assert names == ["README.md", "adapter_config.json", "adapter_model.safetensors", "manifest.json"]
    manifest = json.loads((run.out / "manifest.json").read_text())
    assert manifest["base_model"] == {
        "name": "acme/tiny-llava", "digest": digest_of(str(tiny_folder)), "dtype": "float32"
    }  # fmt: skip
    assert manifest["data"]["forget"] == {"digest": run.forget.digest, "pairs": 4}
    assert manifest["files"] == {name: file_digest(run.out / name) for name in names[1:3]}
    assert manifest["config"] == CONFIG.model_dump(mode="json")
    assert manifest["scorer"] == "packed"
    assert set(manifest["seconds"]) == {"loading", "baseline", "distilling", "evaluating", "packaging"}
    everything = b"".join(file.read_bytes() for file in run.out.iterdir()).decode(errors="ignore")
    assert str(tmp_path) not in everything
    assert str(tiny_folder) not in everything
    assert "Ada" not in everything, "no answer leaves with the adapter"


def test_plain_peft_loads_the_adapter_to_the_same_logits(tiny_folder: Path, tmp_path: Path) -> None:
    run = spec(tiny_folder, tmp_path / "out")
    unlearn(run)
    base = load_base(str(tiny_folder), CONFIG)
    batch = base.encoder.batch([picture(0).decode()], [SENTENCES[0]], [SENTENCES[4]])
    student = distil(base, run.forget, run.retain, CONFIG).student  # the same seed: the same adapter
    torch.save(batch.inputs, tmp_path / "inputs.pt")
    code = (
        "import sys, torch\n"
        "from peft import PeftModel\n"
        "from transformers import AutoModelForImageTextToText\n"
        "torch.set_num_threads(1)\n"
        "model = AutoModelForImageTextToText.from_pretrained(sys.argv[1], dtype=torch.float32)\n"
        "model = PeftModel.from_pretrained(model, sys.argv[2]).eval()\n"
        "with torch.inference_mode():\n"
        "    torch.save(model(**torch.load(sys.argv[3])).logits, sys.argv[4])\n"
        "assert not any(name.split('.')[0] == 'vgid_core' for name in sys.modules)\n"
    )
    files = [str(tiny_folder), str(run.out), str(tmp_path / "inputs.pt"), str(tmp_path / "logits.pt")]
    subprocess.run([sys.executable, "-c", code, *files], check=True, timeout=120, capture_output=True)
    theirs = torch.load(tmp_path / "logits.pt")
    with torch.inference_mode():
        assert torch.allclose(student(**batch.inputs).logits, theirs, atol=1e-5)


def test_the_weights_are_safetensors_of_lora_matrices_alone(tiny_folder: Path, tmp_path: Path) -> None:
    run = spec(tiny_folder, tmp_path / "out")
    unlearn(run)
    with safe_open(run.out / "adapter_model.safetensors", framework="pt") as weights:
        keys = list(weights.keys())
    assert len(keys) == 2 * 2 * 7
    assert all(".lora_A." in key or ".lora_B." in key for key in keys)


def test_photos_to_forget_are_taken_out_of_the_retain_set(
    tiny_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = spec(tiny_folder, tmp_path / "out", retain=pair_set("retain", 6, first_picture=2))
    manifest = unlearn(run).manifest
    assert manifest["data"]["retain"]["pairs"] == 6
    assert manifest["data"]["retain"]["dropped_for_overlap_with_forget"] == 2
    assert "retain: left out 2 pairs with photos, or about people, that are to be forgotten" in caplog.messages
    with pytest.raises(DataError) as error:
        unlearn(spec(tiny_folder, tmp_path / "none", retain=run.forget))
    assert error.value.field == "retain"


def test_a_callback_that_raises_ends_the_run_without_a_manifest(tiny_folder: Path, tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.step == 3:
            raise Stopped

    with pytest.raises(Stopped):
        unlearn(spec(tiny_folder, tmp_path / "out"), stop)
    assert not (tmp_path / "out").exists()


def test_an_earlier_manifest_is_gone_before_another_adapter_lies_there(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlearn(spec(tiny_folder, tmp_path / "out"))

    def full_disk(*_: object, **__: object) -> None:
        raise OSError

    monkeypatch.setattr(PeftModel, "save_pretrained", full_disk)
    with pytest.raises(OSError):
        unlearn(spec(tiny_folder, tmp_path / "out"))
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_folder_that_is_no_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ModelNotLoadable, match=r"'nothing' can't be loaded: the folder holds no config\.json"):
        load_base(str(tmp_path / "nothing"), CONFIG)
    if not torch.cuda.is_available():
        with pytest.raises(ModelNotLoadable, match="no CUDA device"):
            load_base(str(tmp_path / "nothing"), CONFIG.model_copy(update={"device": "cuda"}))


def test_a_base_read_ahead_gives_the_same_run(tiny_folder: Path, tmp_path: Path) -> None:
    read = read_base(str(tiny_folder), CONFIG)
    ahead = unlearn(spec(tiny_folder, tmp_path / "ahead"), base=read).manifest
    alone = unlearn(spec(tiny_folder, tmp_path / "alone")).manifest
    assert ahead["base_model"] == alone["base_model"]
    assert ahead["metrics"] == alone["metrics"]
    assert ahead["files"] == alone["files"]


def test_a_base_read_ahead_is_used_for_nothing_else(tiny_folder: Path, tmp_path: Path) -> None:
    other = save_tiny_model(tmp_path / "other", seed=1)
    read = read_base(str(tiny_folder), CONFIG)
    manifest = unlearn(spec(other, tmp_path / "out"), base=read).manifest
    assert manifest["base_model"]["digest"] == digest_of(str(other)) != read.digest
    assert not read.matches(str(tiny_folder), CONFIG.model_copy(update={"dtype": "bfloat16"}))


@pytest.mark.parametrize(
    ("role", "field"),
    [("forget", "forget[1].answer"), ("retain", "retain[1].answer"), ("utility", "utility[1].answer")],
)
def test_a_text_with_a_control_token_is_named_before_anything_is_computed(
    tiny_folder: Path, tmp_path: Path, role: str, field: str
) -> None:
    good = Pair(picture(90), "Who is this?", "Ada Quill")
    bad = PairSet.of(role, [good, Pair(picture(91), "Who is this?", "Ada <image> Quill")])
    reports: list[Progress] = []
    with pytest.raises(DataError) as error:
        unlearn(spec(tiny_folder, tmp_path / "out", **{role: bad}), reports.append)
    assert error.value.field == field
    assert "Quill" not in str(error.value)
    assert {progress.phase for progress in reports} == {"loading"}


def test_a_probe_cant_take_a_sets_place(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        unlearn(spec(tiny_folder, tmp_path / "out", probes={"forget": pair_set("probe", 2)}))
    assert error.value.field == "probes.forget"
