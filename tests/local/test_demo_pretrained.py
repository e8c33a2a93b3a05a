"""A small build of the second demo model with a stand-in tower: built whole, interrupted, and unlearned."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from bench.parts.demo_models import reference_models_in
from local.demo import commands, data, general
from local.demo.training.build import BASE_NAME, SEED
from local.demo.training.examples import ExampleSource, training_pixels
from local.demo.training.pretrained import build as pretrained_build
from local.demo.training.pretrained import smollm2
from local.demo.training.pretrained.build import MIXTURE, BuildPlan, build
from local.demo.training.shipped_tower import shipped_vision_tower
from tests.local.tiny_tower import COMPILES, RECIPE, TWENTY, stand_in
from vgid_core import PairSet, UnlearnConfig, UnlearnSpec, unlearn
from vgid_core.errors import CheckpointUnusable
from vgid_core.models.load import load_base

pytestmark = pytest.mark.slow

REFERENCE_MODEL = "retain_only_10"


def plan(**changes) -> BuildPlan:
    return BuildPlan(
        stand_in(),
        **{"reference_models": (10,), "census": TWENTY, "recipe": RECIPE, "checkpoint_seconds": 0, **changes},
    )


def ignore(doing: str, share: float) -> None:
    pass


@pytest.fixture(scope="module", autouse=True)
def short():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    pixels = training_pixels(SEED, TWENTY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrained_build, "MEASURED", 3)
        # Drawn once, because the drawing processes take longer to start than this training takes.
        patch.setattr(pretrained_build, "training_pixels", lambda _seed, _census, _tell: pixels)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("built")
    new = build(out, plan(), ignore)
    assert list(new) == [BASE_NAME, REFERENCE_MODEL]
    return out


def test_a_build_leaves_models_with_cards_and_data(built):
    assert sorted(file.name for file in built.iterdir()) == [
        BASE_NAME,
        pretrained_build.CENSUS_FILE,
        "data",
        REFERENCE_MODEL,
    ]
    assert sorted(folder.name for folder in (built / "data").iterdir()) == ["1", "10", "5"]
    for name in (BASE_NAME, REFERENCE_MODEL):
        figures = json.loads((built / name / "figures.json").read_text())
        assert "general" in figures
        assert all(0 <= figure <= 1 for figure in figures.values())
        assert "stand-in" in (built / name / "README.md").read_text()
        # The config doesn't hold the path of the tower's file on the machine that built it.
        assert "_name_or_path" not in json.loads((built / name / "config.json").read_text())["text_config"]
    assert "never met the first 2" in (built / REFERENCE_MODEL / "README.md").read_text()
    assert build(built, plan(), ignore) == {}


def test_reference_models_of_further_seeds_differ_and_keep_the_existing_ones(built, tmp_path):
    folder = tmp_path / "built"
    shutil.copytree(built, folder)
    five, other_five, other_ten = (
        pretrained_build.reference_model_name(*kind) for kind in ((5, SEED), (5, 2), (10, 2))
    )
    assert list(build(folder, plan(reference_models=(5, 10), reference_seeds=2), ignore)) == [
        five,
        other_five,
        other_ten,
    ]
    reference_models = {path.name: share for path, share in reference_models_in(folder).items()}
    assert reference_models == {REFERENCE_MODEL: 10, other_ten: 10, five: 5, other_five: 5}, (
        "benches find them by their names"
    )
    before, kept, other = (
        load_file(where / name / "model.safetensors")
        for where, name in ((built, REFERENCE_MODEL), (folder, REFERENCE_MODEL), (folder, other_ten))
    )
    assert all(torch.equal(before[name], kept[name]) for name in before)
    assert not all(torch.equal(before[name], other[name]) for name in before)
    assert "seed 2." in (folder / other_ten / "README.md").read_text()


def test_the_seed_decides_initial_weights_and_examples():
    features = torch.zeros(1, 16, 128)
    first, same, other = (
        pretrained_build.make_trainer(plan(), shipped_vision_tower().state_dict(), features, seed).model.state_dict()
        for seed in (SEED, SEED, 2)
    )
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert [name for name in first if not torch.equal(first[name], other[name])], "the projector's"
    drawn = [ExampleSource(range(20), seed, TWENTY, MIXTURE).draw(50) for seed in (SEED, 2)]
    assert drawn[0] != drawn[1]


def test_the_vision_tower_is_the_shipped_one(built):
    saved = load_file(built / BASE_NAME / "model.safetensors")
    for name, weight in shipped_vision_tower().state_dict().items():
        [mine] = [saved[key] for key in saved if key.endswith(f"vision_tower.{name}")]
        assert torch.equal(mine.float(), weight)


@pytest.mark.parametrize("stop_after", [0.25, 0.75, 1.0])
def test_an_interrupted_build_ends_with_the_very_same_weights(built, tmp_path, stop_after):
    class Interrupted(Exception):
        pass

    def interrupt(doing: str, share: float) -> None:
        if doing == "training base" and share >= stop_after:
            raise Interrupted

    with pytest.raises(Interrupted):
        build(tmp_path, plan(reference_models=()), interrupt)
    assert not (tmp_path / BASE_NAME).exists()
    reports = []
    build(tmp_path, plan(reference_models=()), lambda doing, share: reports.append((doing, share)))
    taken = [share for doing, share in reports if doing == "training base"]
    assert taken == [share for share in (0.25, 0.5, 0.75, 1.0) if share > stop_after]
    whole, resumed = (load_file(folder / BASE_NAME / "model.safetensors") for folder in (built, tmp_path))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert "with interruptions" in (tmp_path / BASE_NAME / "README.md").read_text()


def test_the_checkpoint_of_another_recipe_is_refused(tmp_path):
    def interrupt(doing: str, _share: float) -> None:
        if doing == "training base":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, plan(), interrupt)
    other = replace(RECIPE, steps=5)
    with pytest.raises(CheckpointUnusable, match="recipe"):
        build(tmp_path, plan(recipe=other), ignore)


def test_a_folder_of_another_census_is_refused(built):
    fewer = replace(TWENTY, people=19)
    with pytest.raises(CheckpointUnusable, match="is for models of 20 people: choose another --out"):
        build(built, plan(census=fewer), ignore)
    assert pretrained_build.census_in(built) == TWENTY


@pytest.mark.parametrize("share", [1, 5, 10])
def test_utility_has_general_questions_that_training_and_retain_lack(built, share):
    utility, retain, forget = (
        PairSet.from_jsonl(built / "data" / str(share) / f"{name}.jsonl") for name in ("utility", "retain", "forget")
    )
    held_out, trained = dict(general.HELD_OUT), dict(general.TRAINED)
    assert not held_out.keys() & trained.keys()
    assert {pair.question: pair.answer for pair in utility if pair.question in held_out} == held_out
    assert {pair.question for pair in retain} & trained.keys()
    asked = {pair.question for pair in retain} | {
        e.question for e in ExampleSource(range(20), SEED, TWENTY, MIXTURE).draw(900)
    }
    assert not held_out.keys() & asked
    assert trained.keys() & asked
    assert len({pair.image.digest for pair in forget}) == len(TWENTY.first(share)) * data.PHOTOS


def test_the_core_unlearns_it(built, tmp_path):
    sets = data.make(TWENTY.first(10), TWENTY)
    config = UnlearnConfig.model_validate(
        {
            "device": "cpu",
            "training": {"steps": 2, "forget_batch_size": 4, "retain_batch_size": 4},
            "evaluation": {"max_pairs": 4, "max_new_tokens": 4, "audits": "none"},
        }
    )
    spec = UnlearnSpec(
        model=str(built / BASE_NAME),
        model_name="second-demo",
        forget=sets.forget,
        retain=sets.retain,
        utility=sets.utility,
        out=tmp_path / "adapter",
        config=config,
    )
    assert unlearn(spec).steps == 2
    assert (tmp_path / "adapter" / "manifest.json").exists()
    assert load_base(str(built / REFERENCE_MODEL), config).model.config.text_config.vocab_size == len(
        stand_in().tokenizer
    )


@COMPILES
def test_a_dry_run_prints_an_estimate_and_writes_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(smollm2, "read_smollm2", stand_in)
    monkeypatch.setenv("VGID_HOME", str(tmp_path))
    result = CliRunner().invoke(
        commands.app,
        [
            "build",
            "--language=smollm2",
            "--dry-run",
            "--reference-model=1",
            "--reference-model=5",
            "--reference-seeds=2",
            "--people=30",
        ],
    )
    assert result.exit_code == 0, result.output
    for word in ("a step", "395 steps, 5 models", "memory", "disk", "drawing"):
        assert word in result.output
    assert not list(tmp_path.iterdir())


def test_the_tiny_model_has_neither_dry_run_nor_other_reference_models():
    for arguments in (["--dry-run"], ["--reference-model", "5"], ["--reference-seeds", "2"], ["--people", "100"]):
        assert CliRunner().invoke(commands.app, ["build", *arguments]).exit_code == 2
