"""What can't be worked on is refused by config and processor: no folder here holds any weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from transformers import AutoProcessor, Florence2Config, GitConfig, LlamaConfig, PreTrainedConfig

from tests.vgid_core.families import smolvlm
from vgid_core import UnlearnConfig, read_base
from vgid_core.errors import ModelNotLoadable, ModelNotSupported

CONFIG = UnlearnConfig(device="cpu")


@pytest.fixture
def weightless(tiny_folder: Path, tmp_path: Path) -> Path:
    """LLaVA's config and processor alone."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    return folder


def test_what_is_supported_is_missing_its_weights(weightless: Path) -> None:
    with pytest.raises(ModelNotLoadable, match=r"'model' has no weights in \*\.safetensors"):
        read_base(str(weightless), CONFIG)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (LlamaConfig(), "'llama' isn't one that takes images and text"),
        (Florence2Config(), "'florence2' is an encoder-decoder"),
        (GitConfig(), "language tower in a module of its own"),
    ],
)
def test_types_that_cant_be_worked_on(config: PreTrainedConfig, reason: str, tmp_path: Path) -> None:
    config.save_pretrained(tmp_path)
    with pytest.raises(ModelNotSupported, match=reason):
        read_base(str(tmp_path), CONFIG)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "llava_of_tomorrow", "auto_map": {"AutoConfig": "code.Config"}}, "llava_of_tomorrow.*unknown"),
        ({"model_type": "blip-2"}, "logits at answer tokens"),
    ],
)
def test_types_by_name(changes: dict[str, object], reason: str, tmp_path: Path) -> None:
    """Code that comes with a model isn't run: here there is none to run."""
    (tmp_path / "config.json").write_text(json.dumps(changes))
    with pytest.raises(ModelNotSupported, match=reason):
        read_base(str(tmp_path), CONFIG)


def test_a_processor_without_images(weightless: Path) -> None:
    (weightless / "processor_config.json").unlink()
    with pytest.raises(ModelNotLoadable, match="OSError"):
        read_base(str(weightless), CONFIG)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (None, "no chat template; set `processor.chat_template`"),
        ("{% for m in messages %}{{ m['content'] }}{% endfor %}", "one image token"),
        ("{% for m in messages %}{{ m['role'] + m['content'] }}{% endfor %}", "a question about an image"),
        ("{% for m in messages %}{{ raise_exception('text only') }}{% endfor %}", "a question about an image"),
        (
            "{% for m in messages %}{% for c in m['content'] %}{{ c['text'] }}{% endfor %}{% endfor %}",
            "one image token",
        ),
    ],
)
def test_templates_that_take_no_image(template: str | None, reason: str, weightless: Path) -> None:
    processor = AutoProcessor.from_pretrained(weightless)
    processor.chat_template = processor.tokenizer.chat_template = template
    (weightless / "chat_template.jinja").unlink()
    processor.save_pretrained(weightless)
    with pytest.raises(ModelNotSupported, match=reason):
        read_base(str(weightless), CONFIG)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = smolvlm.save_tiny(tmp_path / "model")
    monkeypatch.setattr("transformers.models.smolvlm.processing_smolvlm.num2words", None)
    with pytest.raises(ModelNotLoadable, match=r"package that isn't installed: .*num2words"):
        read_base(str(folder), CONFIG)
