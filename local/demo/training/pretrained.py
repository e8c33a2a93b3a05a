"""The build of the second demo model: 300 people on a pretrained language tower, with retain-only twins and data."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from local.demo import data
from local.demo.training.architecture import build_processor, save
from local.demo.training.build import BASE_NAME, SEED, TWIN_NAME
from local.demo.training.examples import ExampleSource, Mixture, training_pixels
from local.demo.training.loop import Recipe, Trainer, image_features
from local.demo.training.measure import measure
from local.demo.training.pretrained_card import Trained, write_card
from local.demo.training.rows import RowEncoder
from local.demo.training.smollm2 import DIALOGUE, LanguageTower, with_eyes
from local.demo.training.twins import shipped_tower
from local.demo.world import THREE_HUNDRED, Census
from vgid_core.errors import CheckpointUnusable
from vgid_core.models.load import choose_device
from vgid_core.training.checkpoints import Checkpoints, delete_checkpoint

# Per cent of the people whom the data's forget sets hold.
SHARES = (1, 5, 10)
# Pairs of each set that a finished model's figures are taken from.
MEASURED = 300
MIXTURE = Mixture(facts=0.58, visual=0.22, instructed=0.10, general=0.07)
CENSUS_FILE = "census.json"
# Telling faces apart has to be learnt once, however many there are; facts, for each person.
STEPS, STEPS_A_PERSON = 350, 1.5


def recipe_for(census: Census) -> Recipe:
    """How a model of so many people is trained."""
    return Recipe(
        steps=STEPS + round(STEPS_A_PERSON * census.people),
        batch=64,
        micro_batch=32,
        learning_rate=4e-4,
        projector_rate=2e-3,
        rise=0.06,
        half=True,
        compiled=True,
    )


Tell = Callable[[str, float], None]  # (what is being done, share done from 0 to 1)


@dataclass(frozen=True)
class ModelToBuild:
    """One model to be built. `share`: per cent of the people whom it is measured on as the forgotten."""

    name: str
    share: int
    seed: int


def twin_name(share: int, seed: int) -> str:
    """A twin's folder."""
    return f"{TWIN_NAME}_{share}" + (f"_seed_{seed}" if seed != SEED else "")


def twins_in(out: Path) -> dict[Path, int]:
    """The twins that were built in `out`, and of each, per cent of the people whom it has never met."""
    found = ((path, re.fullmatch(rf"{TWIN_NAME}_(\d+)(_seed_\d+)?", path.name)) for path in sorted(out.iterdir()))
    return {path: int(match[1]) for path, match in found if match}


@dataclass(frozen=True)
class Order:
    """What is to be built from which language tower. `twins`: per cent of the people whom a twin has never met, each.

    twin_seeds: of how many seeds there is a twin of each kind. checkpoint_seconds: how long a training goes on before
    it is written down again; with 0, after every step.
    """

    tower: LanguageTower
    twins: tuple[int, ...]
    census: Census
    recipe: Recipe
    mixture: Mixture = MIXTURE
    twin_seeds: int = 1
    checkpoint_seconds: float = 600.0

    @classmethod
    def of(cls, tower: LanguageTower, twins: tuple[int, ...], people: int, twin_seeds: int = 1) -> Order:
        """The order for so many people, at most three hundred."""
        census = replace(THREE_HUNDRED, people=people)
        return cls(tower, twins, census, recipe_for(census), twin_seeds=twin_seeds)

    def models(self) -> list[ModelToBuild]:
        """The base, then its twins, those of the base's seed first."""
        # The base is measured as its first twin is, so that the two can be compared.
        base = ModelToBuild(BASE_NAME, (self.twins or SHARES)[0], SEED)
        seeds = range(SEED, SEED + self.twin_seeds)
        return [base, *(ModelToBuild(twin_name(share, seed), share, seed) for seed in seeds for share in self.twins)]

    def people(self, model: ModelToBuild) -> list[int]:
        """Whom a model gets to know."""
        unmet = () if model.name == BASE_NAME else self.census.first(model.share)
        return [number for number in range(self.census.people) if number not in unmet]


def build(out: Path, order: Order, tell: Tell) -> dict[str, Trained]:
    """Builds what is ordered and not yet in `out`: data/<share>, base and `twin_name`s. Returns what is new, by name.

    Started again after an interruption, it goes on from the last checkpoint. On the first CUDA device where there is
    one, else on all cores. Raises CheckpointUnusable where `out` has models of another census, or the checkpoint of
    another order.
    """
    out.mkdir(parents=True, exist_ok=True)
    _claim(out, order.census)
    (out / "data").mkdir(exist_ok=True)
    for done, share in enumerate(SHARES, 1):
        forgotten = order.census.first(share)
        data.write_whole(out / "data" / str(share), partial(data.make, forgotten, order.census))
        tell("writing the data", done / len(SHARES))
    missing = [model for model in order.models() if not (out / model.name).is_dir()]
    if not missing:
        return {}
    vision = shipped_tower()
    pixels = training_pixels(SEED, order.census, partial(tell, "drawing the world"))
    features = image_features(vision, torch.from_numpy(pixels)).to(choose_device("auto"))
    return {model.name: _build_one(out, model, order, vision.state_dict(), features, tell) for model in missing}


def census_in(out: Path) -> Census:
    """Whom the models that were built in `out` know. Raises OSError where none were."""
    return Census(**json.loads((out / CENSUS_FILE).read_text(encoding="utf-8")))


def _claim(out: Path, census: Census) -> None:
    if not (out / CENSUS_FILE).exists():
        unfinished = out / f".{CENSUS_FILE}.new"
        unfinished.write_text(json.dumps(asdict(census), indent=2) + "\n", encoding="utf-8")
        unfinished.rename(out / CENSUS_FILE)
    elif census_in(out) != census:
        raise CheckpointUnusable(f"{out} is for models of {census_in(out).people} people: choose another --out")


def trainer_of(order: Order, vision: dict[str, Tensor], features: Tensor, seed: int = SEED) -> Trainer:
    """What trains a fresh model, the same for each seed, on the features' device."""
    torch.manual_seed(seed)
    model = with_eyes(order.tower, vision)
    model.to(features.device)  # type: ignore[arg-type]  # its type is lost in a decorator of transformers
    return Trainer(model, RowEncoder(order.tower.tokenizer, DIALOGUE), features, order.recipe)


def _build_one(
    out: Path, model: ModelToBuild, order: Order, vision: dict[str, Tensor], features: Tensor, tell: Tell
) -> Trained:
    started = time.monotonic()
    name, people = model.name, order.people(model)
    trainer = trainer_of(order, vision, features, model.seed)
    identity = _identity(order, people, model.seed)
    folder = out / f".{name}.training"
    checkpoints = Checkpoints(folder, identity, order.checkpoint_seconds)
    source = ExampleSource(people, model.seed, order.census, order.mixture)
    title = f"training {name.replace('_', '-')}"
    resumed = trainer.train(source, partial(tell, title), checkpoints)
    trained = time.monotonic()
    unfinished = out / f".{name}.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    save(trainer.model.cpu(), build_processor(order.tower.tokenizer, DIALOGUE.template), unfinished)
    figures = measure(unfinished, order.census.first(model.share), order.census, "auto", MEASURED)
    done = Trained(
        name=name,
        tower=order.tower.name,
        share=model.share,
        seed=model.seed,
        parameters=sum(weight.numel() for weight in trainer.model.parameters()),
        device=device_name(features.device),
        training_seconds=None if resumed else trained - started,
        figures=figures,
    )
    (unfinished / "figures.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    write_card(unfinished, done, order.census, order.recipe, order.mixture, MEASURED)
    unfinished.rename(out / name)
    delete_checkpoint(folder)
    return done


def device_name(device: torch.device) -> str:
    """In words, for people."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} thread(s)"


def _identity(order: Order, people: Iterable[int], seed: int) -> dict[str, str]:
    return {
        "tower": order.tower.name,
        "people": f"{order.census} {list(people)}",
        "recipe": f"{order.recipe} {order.mixture} seed {seed}",
    }
