"""A small build of the demo model: the seed decides the weights. The command describes itself."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from local.demo.commands import app
from local.demo.faces import IMAGE_SIZE
from local.demo.training import language, vision
from local.demo.training.examples import NOISE_PICTURES, ExampleSource
from local.demo.world import SIXTY


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    count = SIXTY.people * SIXTY.training_views + SIXTY.passers_by + NOISE_PICTURES
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (count, 3, IMAGE_SIZE, IMAGE_SIZE), dtype=np.uint8))


def trained(pixels: Tensor, seed: int) -> dict[str, Tensor]:
    tower, accuracy = vision.train_vision(seed, lambda _doing, _share: None)
    assert 0 < accuracy < 1
    shares: list[float] = []
    model, _ = language.train_language(tower, pixels, ExampleSource(range(SIXTY.people), seed), seed, shares.append)
    assert shares[-1] == 1.0
    weights = model.state_dict()
    for name, weight in tower.state_dict().items():
        saved = weights[f"model.vision_tower.{name}"]
        assert torch.equal(saved, weight.half().float()), "the tower that was trained on is the one that is saved"
    return weights


def test_the_seed_decides_the_weights(monkeypatch, pixels):
    for name, value in (("IMAGES", 64), ("CHECKED", 16), ("BATCH", 16), ("STEPS", 3)):
        monkeypatch.setattr(vision, name, value)
    monkeypatch.setattr(language, "RECIPE", replace(language.RECIPE, batch=8, steps=3))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        first, second, other = trained(pixels, 0), trained(pixels, 0), trained(pixels, 1)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])


def test_the_command_says_what_it_does():
    result = CliRunner().invoke(app, ["build", "--help"])
    assert result.exit_code == 0
    assert "reference model" in " ".join(result.output.split())
    assert "--out" in result.output
