"""Loading a base: its digest, from a folder or the hub, and files that change."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoModelForImageTextToText

from compare import runner
from compare.plan import ComparisonData, ComparisonPlan
from tests.vgid_core.support.hub import fake_hub
from tests.vgid_core.support.runs import CONFIG, spec
from tests.vgid_core.support.tiny import pair_set, save_tiny_model
from vgid_core import UnlearnSpec, unlearn
from vgid_core.config import UnlearnConfig
from vgid_core.errors import ModelNotLoadable, ModelNotSupported
from vgid_core.models.load import digest_of, load_base, read_base


def test_a_base_that_a_run_has_taken_is_read_anew(tiny_folder: Path) -> None:
    read = read_base(str(tiny_folder), CONFIG)
    taken = load_base(str(tiny_folder), CONFIG, read).model
    assert not read.matches(str(tiny_folder), CONFIG)
    assert load_base(str(tiny_folder), CONFIG, read).model is not taken


def test_files_that_changed_since_are_read_anew(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model")
    read = read_base(str(folder), CONFIG)
    assert read.matches(str(folder), CONFIG)
    save_tiny_model(folder, seed=1)
    assert not read.matches(str(folder), CONFIG)
    manifest = unlearn(spec(folder, tmp_path / "out"), base=read).manifest
    assert manifest["base_model"]["digest"] == digest_of(str(folder)) != read.digest


@pytest.fixture(scope="module")
def sharded_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sharded") / "model"
    shutil.copytree(tiny_folder, folder)
    (folder / "model.safetensors").unlink()
    AutoModelForImageTextToText.from_pretrained(tiny_folder).save_pretrained(folder, max_shard_size="100KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    return folder


def test_a_hubs_model_has_its_digest_before_it_was_ever_loaded(
    tiny_folder: Path, sharded_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = {"acme/whole": tiny_folder, "acme/sharded": sharded_folder}
    hub = fake_hub(models, tmp_path, monkeypatch)
    for name, folder in models.items():
        first = digest_of(name)
        assert first == digest_of(str(folder))
        fetched = [file for file in hub.fetched if file.endswith(".safetensors")]
        assert load_base(name, UnlearnConfig(device="cpu")).digest == first == digest_of(name)
        assert [file for file in hub.fetched if file.endswith(".safetensors")] == fetched, "nothing more to load"


def test_other_files_in_the_cache_change_nothing(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_hub({"acme/whole": tiny_folder}, tmp_path, monkeypatch)
    first = digest_of("acme/whole")
    snapshot = next(tmp_path.glob("models--acme--whole/snapshots/*"))
    shutil.copy(snapshot / "model.safetensors", snapshot / "consolidated.safetensors")
    assert digest_of("acme/whole") == first


def test_pickled_weights_are_refused_and_never_read(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(tiny_folder, folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")  # reading it would be another error
    for look in (digest_of, lambda source: load_base(source, UnlearnConfig(device="cpu"))):
        with pytest.raises(ModelNotLoadable, match=r"^'.*pickled' has no weights in \*\.safetensors$"):
            look(str(folder))


def test_a_comparison_of_a_hubs_models_can_be_gone_on_with(
    tiny_folder: Path, sharded_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_hub({"acme/base": tiny_folder, "acme/reference-model": sharded_folder}, tmp_path, monkeypatch)
    plan, data = ComparisonPlan(), ComparisonData(pair_set("forget", 2), pair_set("retain", 2, 20))
    first = runner.conditions_of(plan, data, "acme/base", "acme/reference-model")
    for name in ("acme/base", "acme/reference-model"):
        load_base(name, UnlearnConfig(device="cpu"))
    assert runner.conditions_of(plan, data, "acme/base", "acme/reference-model") == first


def compare_it(source: str, _out: Path) -> None:
    runner.conditions_of(
        ComparisonPlan(), ComparisonData(pair_set("forget", 2), pair_set("retain", 2, 20)), source, None
    )


def unlearn_it(source: str, out: Path) -> None:
    forget, retain = pair_set("forget", 2), pair_set("retain", 2, 20)
    config = UnlearnConfig.model_validate({"device": "cpu", "evaluation": {"audits": "none"}})
    unlearn(UnlearnSpec(source, "acme", forget, retain, out, config=config))


def read_it(source: str, _out: Path) -> None:
    read_base(source, UnlearnConfig(device="cpu"))


def for_words_alone(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "llama"}')


def without_image_in_its_template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m['content'] }}{% endfor %}")


@pytest.mark.parametrize("use", [compare_it, unlearn_it, read_it])
@pytest.mark.parametrize("spoil", [for_words_alone, without_image_in_its_template])
def test_no_weights_are_fetched_of_a_model_that_cant_be_used(
    use: Callable[[str, Path], None],
    spoil: Callable[[Path], None],
    sharded_folder: Path,
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In none of the forms that a hub has them in, all of which this one offers."""
    folder = tmp_path / "unusable"
    shutil.copytree(sharded_folder, folder)
    shutil.copy(tiny_folder / "model.safetensors", folder)
    shutil.copy(tiny_folder / "model.safetensors", folder / "pytorch_model.bin")
    spoil(folder)
    hub = fake_hub({"acme/unusable": folder}, tmp_path / "cache", monkeypatch)
    with pytest.raises(ModelNotSupported):
        use("acme/unusable", tmp_path / "out")
    assert "config.json" in hub.asked
    assert not [file for file in hub.asked if re.search(r"safetensors|\.(bin|pt|pth|h5|msgpack|gguf)\b", file)]
    assert not (tmp_path / "out").exists()
