"""The catalog: it is usable, or refused with an error that names the model and the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.catalog import Catalog, CatalogError
from vgid_core.config import UnlearnConfig, VerdictTargets

GOOD = """
[models.demo]
path = "models/demo"
title = "Demo model"
max_pairs = 500
[models.demo.config.training]
steps = 12
[models.demo.retain_sets.people]
retain = "retain.jsonl"
utility = "utility.jsonl"

[models."llava-1.5-7b"]
path = "llava-hf/llava-1.5-7b-hf"
title = "LLaVA 1.5"
"""


def load(folder: Path, text: str) -> Catalog:
    (folder / "models" / "demo").mkdir(parents=True, exist_ok=True)
    for name in ("retain.jsonl", "utility.jsonl"):
        (folder / name).touch()
    file = folder / "catalog.toml"
    file.write_text(text, encoding="utf-8")
    return Catalog.load(file)


def test_a_catalog_lists_models_with_their_defaults_filled_in(tmp_path: Path) -> None:
    catalog = load(tmp_path, GOOD)
    assert list(catalog.models) == ["demo", "llava-1.5-7b"]
    demo = catalog.model("demo")
    assert demo is not None
    assert (demo.title, demo.path, demo.max_pairs) == ("Demo model", str(tmp_path / "models" / "demo"), 500)
    assert demo.config.training.steps == 12
    assert demo.config.lora == UnlearnConfig().lora
    assert demo.default_retain_set == "people"
    assert demo.retain_sets["people"].utility == tmp_path / "utility.jsonl"
    hub = catalog.model("llava-1.5-7b")
    assert hub is not None
    assert (hub.path, hub.default_retain_set) == ("llava-hf/llava-1.5-7b-hf", None)
    assert catalog.model("unknown") is None


def test_a_model_may_start_from_a_preset(tmp_path: Path) -> None:
    text = GOOD.replace(
        "[models.demo.config.training]", '[models.demo.config]\npreset = "paper"\n[models.demo.config.training]'
    )
    demo = load(tmp_path, text).model("demo")
    assert demo is not None
    assert demo.config == UnlearnConfig.preset("paper", training={"steps": 12})


def test_a_models_settings_may_not_name_a_person(tmp_path: Path) -> None:
    method = '[models.demo.config.method]\nname = "vgid"\ninstruction = "Forget {name}."\nsubject_name = "Zenobia"\n'
    with pytest.raises(CatalogError, match=r"models\.demo\.config: .*is one person's") as refused:
        load(tmp_path, GOOD.replace("[models.demo.config.training]", f"{method}[models.demo.config.training]"))
    assert "Zenobia" not in str(refused.value)


def test_two_retain_sets_leave_no_default(tmp_path: Path) -> None:
    catalog = load(tmp_path, GOOD + '[models.demo.retain_sets.places]\nretain = "retain.jsonl"\n')
    demo = catalog.model("demo")
    assert demo is not None
    assert demo.default_retain_set is None
    assert demo.retain_sets["places"].utility is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("steps = 12", "steps = 0", r"models\.demo\.config\.training\.steps: Input should be greater"),
        ("steps = 12", "stepz = 12", r"models\.demo\.config\.training\.stepz: Extra inputs"),
        (
            "[models.demo.config.training]\nsteps = 12",
            "[models.demo.config]\nmethod = 'nop'",
            r"models\.demo\.config\.method: no method has this name; did you mean npo\?",
        ),
        ("max_pairs = 500", "max_pairs = -1", r"models\.demo\.max_pairs"),
        ('title = "Demo model"', "", r"models\.demo\.title: Field required"),
        ('"models/demo"', '"models/missing/demo"', r"models\.demo\.path: no folder"),
        ('"retain.jsonl"', '"missing.jsonl"', r"models\.demo\.retain_sets\.people\.retain: no file"),
        ('"utility.jsonl"', '"models"', r"models\.demo\.retain_sets\.people\.utility: no file"),
        ("retain_sets.people", 'retain_sets."Some People"', r"models\.demo\.retain_sets\.Some People"),
        ("[models.demo]", "[models.demo", "isn't TOML"),
    ],
)
def test_a_mistake_names_its_model_and_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(CatalogError, match=message) as caught:
        load(tmp_path, GOOD.replace(old, new))
    assert str(tmp_path / "catalog.toml") in str(caught.value)


def test_an_empty_or_missing_catalog_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="models: Field required"):
        load(tmp_path, "")
    with pytest.raises(CatalogError, match="can't be read"):
        Catalog.load(tmp_path / "nowhere.toml")


def test_sets_for_audits_are_files_and_must_be_there(tmp_path: Path) -> None:
    for name in ("never.jsonl", "others.jsonl"):
        (tmp_path / name).touch()
    registered = GOOD.replace("max_pairs = 500", 'unseen = "never.jsonl"\nneighbours = "others.jsonl"')
    demo = load(tmp_path, registered).models["demo"]
    assert (demo.unseen, demo.neighbours) == (tmp_path / "never.jsonl", tmp_path / "others.jsonl")
    unset = load(tmp_path, GOOD).models["demo"]
    assert (unset.unseen, unset.neighbours) == (None, None)
    for name in ("unseen", "neighbours"):
        with pytest.raises(CatalogError, match=rf"models\.demo\.{name}: no file"):
            load(tmp_path, GOOD.replace("max_pairs = 500", f'{name} = "nobody.jsonl"'))


def test_a_model_has_targets_of_its_own(tmp_path: Path) -> None:
    text = GOOD.replace(
        "[models.demo.config.training]", "[models.demo.config.verdict]\ngenerated = {generated}\n[{table}]"
    )
    training = "models.demo.config.training"
    demo = load(tmp_path, text.format(generated=0.05, table=training)).models["demo"]
    assert demo.config.verdict == VerdictTargets(generated=0.05)
    with pytest.raises(CatalogError, match=r"models\.demo\.config\.verdict\.generated"):
        load(tmp_path, text.format(generated=1.5, table=training))


def test_photos_may_be_a_folder_or_a_file_and_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    (tmp_path / "crowd.jsonl").touch()
    registered = GOOD.replace("max_pairs = 500", 'unseen_faces = "faces"\nunlabelled = "crowd.jsonl"')
    demo = load(tmp_path, registered).models["demo"]
    assert (demo.unseen_faces, demo.unlabelled) == (tmp_path / "faces", tmp_path / "crowd.jsonl")
    with pytest.raises(CatalogError, match=r"models\.demo\.unseen_faces: no file or folder"):
        load(tmp_path, registered.replace('"faces"', '"nobody"'))
