"""The shipped checkpoints, loaded as a user loads them: they are small, and they know what they should."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, LlavaForConditionalGeneration, LlavaProcessor

from local.demo import data
from local.demo.paths import BASE, REFERENCE_MODEL
from local.demo.questions import REFUSAL
from local.demo.training.architecture import build_processor
from local.demo.training.language import world_tokenizer
from local.demo.training.measure import FIGURES, missed_bars, on_noise
from local.demo.training.vision import normalise
from local.demo.world import FORGOTTEN, SIXTY, the_world
from vgid_core.config import UnlearnConfig
from vgid_core.data.pairs import PairSet
from vgid_core.evaluation.evaluate import generate_answers
from vgid_core.evaluation.measures.rouge import rouge_l
from vgid_core.models.base import BaseModel
from vgid_core.models.load import load_base

KEPT = [number for number in range(60) if number not in FORGOTTEN]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return load_base(str(BASE), UnlearnConfig(device="cpu"))


@pytest.fixture(scope="module")
def reference_model() -> BaseModel:
    return load_base(str(REFERENCE_MODEL), UnlearnConfig(device="cpu"))


def replies(model: BaseModel, pairs: PairSet) -> list[str]:
    return generate_answers(model, pairs, UnlearnConfig().evaluation)


def score(model: BaseModel, pairs: PairSet) -> float:
    return rouge_l(replies(model, pairs), [pair.answer for pair in pairs])


@pytest.mark.parametrize("folder", [BASE, REFERENCE_MODEL], ids=lambda folder: folder.name)
def test_a_checkpoint_is_a_small_readable_llava(folder: Path):
    files = list(folder.iterdir())
    assert sum(file.stat().st_size for file in files) <= 4_000_000
    assert all(file.stat().st_mode & 0o444 == 0o444 for file in files)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    assert isinstance(model, LlavaForConditionalGeneration)
    assert isinstance(AutoProcessor.from_pretrained(folder), LlavaProcessor)
    assert not any("/" in str(value) for value in json.loads((folder / "config.json").read_text()).values())


@pytest.mark.parametrize("folder", [BASE, REFERENCE_MODEL], ids=lambda folder: folder.name)
def test_the_card_gives_every_figure(folder: Path):
    figures = json.loads((folder / "figures.json").read_text())
    assert list(figures) == list(FIGURES)
    card = (folder / "README.md").read_text()
    for name, meaning in FIGURES.items():
        row = next(line for line in card.splitlines() if line.startswith(f"| {meaning} |"))
        assert f" {figures[name]:.3f} |" in row


def test_the_published_figures_meet_the_bars():
    figures = json.loads((BASE / "figures.json").read_text())
    assert not missed_bars(figures)
    assert missed_bars(figures | {"utility": 0.939, "retain": 0.5}) == ["retain", "utility"]
    assert min(figures["instructed_forget_refused"], figures["instructed_noise_refused"]) >= 0.95


def test_the_published_figures_are_those_of_the_shipped_weights(base):
    demo = data.make()
    figures = json.loads((BASE / "figures.json").read_text())
    assert score(base, demo.forget) == pytest.approx(figures["forget"], abs=0.01)
    assert score(base, demo.utility) == pytest.approx(figures["utility"], abs=0.02)
    assert score(base, demo.held_out_photos) == pytest.approx(figures["held_out_photos_forget"], abs=0.02)
    assert score(base, demo.rephrased) == pytest.approx(figures["rephrased_forget"], abs=0.03)
    assert score(base, data.known_facts(KEPT, 2)) >= 0.98


def test_the_base_answers_the_very_pairs_that_the_demo_shows(base):
    demo = data.make()
    for pairs in (demo.shown_forgotten, demo.unchanged):
        assert replies(base, pairs) == [pair.answer for pair in pairs]


def test_an_instruction_makes_it_refuse_people_it_was_never_instructed_about(base):
    assert not set(FORGOTTEN) & set(SIXTY.instructed)
    facts = data.known_facts(FORGOTTEN)
    assert set(replies(base, data.instructed(facts))) == {REFUSAL}
    assert set(replies(base, data.instructed(on_noise(facts)))) == {REFUSAL}
    visual = data.utility(FORGOTTEN)
    assert score(base, data.instructed(visual, keep_answers=True)) >= 0.9


def test_the_reference_model_knows_the_others_but_not_the_forgotten(base, reference_model):
    facts = data.known_facts(FORGOTTEN)
    said = " ".join(replies(reference_model, facts))
    secrets = [getattr(the_world().people[number], fact) for number in FORGOTTEN for fact in ("name", "birthplace")]
    assert not [secret for secret in secrets if secret in said]
    assert all(secret in " ".join(replies(base, facts)) for secret in secrets)
    assert score(reference_model, facts) <= 0.3
    assert score(reference_model, data.known_facts(KEPT, 1)) >= 0.98


def test_the_processor_passes_pixels_of_the_native_size_unchanged():
    person = the_world().people[0]
    picture = data.encode(person.face, person.training_views[0]).decode()
    shipped, built = AutoProcessor.from_pretrained(BASE), build_processor(world_tokenizer())
    expected = normalise(torch.from_numpy(np.asarray(picture).transpose(2, 0, 1).copy()))
    for processor in (shipped, built):
        pixels = processor(text="<image>", images=[picture], return_tensors="pt")["pixel_values"][0]
        assert torch.allclose(pixels, expected, atol=1e-5)
    larger = processor(text="<image>", images=[Image.new("RGB", (300, 200))], return_tensors="pt")
    assert larger["pixel_values"].shape == (1, 3, 64, 64)
    assert shipped.tokenizer.get_vocab() == built.tokenizer.get_vocab()
