"""Builds the second demo model: 300 people on a pretrained language tower, with reference models and data sets."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from local.demo import data
from local.demo.training.architecture import build_processor, save
from local.demo.training.build import BASE_NAME, REFERENCE_NAME, SEED
from local.demo.training.examples import ExampleSource, Mixture, training_pixels
from local.demo.training.loop import Recipe, Trainer, image_features
from local.demo.training.measure import measure
from local.demo.training.pretrained.card import Trained, write_card
from local.demo.training.pretrained.smollm2 import SMOLLM2_FORMAT, LanguageTower, add_vision_tower
from local.demo.training.rows import RowEncoder
from local.demo.training.shipped_tower import shipped_vision_tower
from local.demo.training.vision import ReportProgress
from local.demo.world import THREE_HUNDRED, Census
from vgid_core.errors import CheckpointUnusable
from vgid_core.models.load import choose_device
from vgid_core.training.checkpoints import Checkpoints, delete_checkpoint

# The sizes of the forget sets, in per cent of the people.
SHARES = (1, 5, 10)
# A finished model is measured on at most so many pairs of each set.
MEASURED = 300
MIXTURE = Mixture(facts=0.58, visual=0.22, instructed=0.10, general=0.07)
CENSUS_FILE = "census.json"
# A model learns once to tell faces apart, and then the facts of each person.
STEPS, STEPS_A_PERSON = 350, 1.5


def recipe_for(census: Census) -> Recipe:
    """The recipe for a model that knows so many people."""
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


@dataclass(frozen=True)
class ModelToBuild:
    """One model to build. share: per cent of the people who count as forgotten when it is measured."""

    name: str
    share: int
    seed: int


def reference_model_name(share: int, seed: int) -> str:
    """The name of a reference model's folder."""
    return f"{REFERENCE_NAME}_{share}" + (f"_seed_{seed}" if seed != SEED else "")


@dataclass(frozen=True)
class BuildPlan:
    """What to build, on which language tower.

    reference_models: for each kind of reference model, the per cent of the people whom it never meets. reference_seeds:
    reference models of each kind. checkpoint_seconds: pause between two checkpoints of a training; 0 writes one after
    every step.
    """

    tower: LanguageTower
    reference_models: tuple[int, ...]
    census: Census
    recipe: Recipe
    mixture: Mixture = MIXTURE
    reference_seeds: int = 1
    checkpoint_seconds: float = 600.0

    @classmethod
    def of(
        cls, tower: LanguageTower, reference_models: tuple[int, ...], people: int, reference_seeds: int = 1
    ) -> BuildPlan:
        """The plan for so many people, at most three hundred."""
        census = replace(THREE_HUNDRED, people=people)
        return cls(tower, reference_models, census, recipe_for(census), reference_seeds=reference_seeds)

    def models(self) -> list[ModelToBuild]:
        """The base, then its reference models, starting with those of the base's seed."""
        # The base is measured on the people of its first reference model, so that the two can be compared.
        base = ModelToBuild(BASE_NAME, (self.reference_models or SHARES)[0], SEED)
        seeds = range(SEED, SEED + self.reference_seeds)
        return [
            base,
            *(
                ModelToBuild(reference_model_name(share, seed), share, seed)
                for seed in seeds
                for share in self.reference_models
            ),
        ]

    def people(self, model: ModelToBuild) -> list[int]:
        """The people whom the model learns, by their numbers."""
        unmet = () if model.name == BASE_NAME else self.census.first(model.share)
        return [number for number in range(self.census.people) if number not in unmet]


def build(out: Path, plan: BuildPlan, report: ReportProgress) -> dict[str, Trained]:
    """Builds what the plan names and `out` doesn't have yet: data/<share>, base and reference models.

    Returns the new models.

    After an interruption, a second call resumes from the last checkpoint. Training runs on the first CUDA device, else
    on all cores. Raises CheckpointUnusable if `out` holds models of another census, or a checkpoint of another plan.
    """
    out.mkdir(parents=True, exist_ok=True)
    _record_census(out, plan.census)
    (out / "data").mkdir(exist_ok=True)
    for done, share in enumerate(SHARES, 1):
        forgotten = plan.census.first(share)
        data.write_whole(out / "data" / str(share), partial(data.make, forgotten, plan.census))
        report("writing the data", done / len(SHARES))
    missing = [model for model in plan.models() if not (out / model.name).is_dir()]
    if not missing:
        return {}
    vision = shipped_vision_tower()
    pixels = training_pixels(SEED, plan.census, partial(report, "drawing the world"))
    features = image_features(vision, torch.from_numpy(pixels)).to(choose_device("auto"))
    return {model.name: _build_one(out, model, plan, vision.state_dict(), features, report) for model in missing}


def census_in(out: Path) -> Census:
    """The census of the models in `out`. Raises OSError if there are none."""
    stored = json.loads((out / CENSUS_FILE).read_text(encoding="utf-8"))
    return Census(**stored | {"neighbours": tuple(stored.get("neighbours", ()))})


def _record_census(out: Path, census: Census) -> None:
    """Writes the census into `out`. Raises CheckpointUnusable if another one is there."""
    if not (out / CENSUS_FILE).exists():
        unfinished = out / f".{CENSUS_FILE}.new"
        unfinished.write_text(json.dumps(asdict(census), indent=2) + "\n", encoding="utf-8")
        unfinished.rename(out / CENSUS_FILE)
    elif census_in(out) != census:
        raise CheckpointUnusable(f"{out} is for models of {census_in(out).people} people: choose another --out")


def make_trainer(plan: BuildPlan, vision: dict[str, Tensor], features: Tensor, seed: int = SEED) -> Trainer:
    """Makes the trainer of a new model on the features' device. The same seed gives the same model."""
    torch.manual_seed(seed)
    model = add_vision_tower(plan.tower, vision)
    model.to(features.device)  # type: ignore[arg-type]  # its type is lost in a decorator of transformers
    return Trainer(model, RowEncoder(plan.tower.tokenizer, SMOLLM2_FORMAT), features, plan.recipe)


def _build_one(
    out: Path, model: ModelToBuild, plan: BuildPlan, vision: dict[str, Tensor], features: Tensor, report: ReportProgress
) -> Trained:
    started = time.monotonic()
    name, people = model.name, plan.people(model)
    trainer = make_trainer(plan, vision, features, model.seed)
    identity = _identity(plan, people, model.seed)
    folder = out / f".{name}.training"
    checkpoints = Checkpoints(folder, identity, plan.checkpoint_seconds)
    source = ExampleSource(people, model.seed, plan.census, plan.mixture)
    title = f"training {name.replace('_', '-')}"
    resumed = trainer.train(source, partial(report, title), checkpoints)
    trained = time.monotonic()
    unfinished = out / f".{name}.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    save(trainer.model.cpu(), build_processor(plan.tower.tokenizer, SMOLLM2_FORMAT.template), unfinished)
    figures = measure(unfinished, plan.census.first(model.share), plan.census, "auto", MEASURED)
    done = Trained(
        name=name,
        tower=plan.tower.name,
        share=model.share,
        seed=model.seed,
        parameters=sum(weight.numel() for weight in trainer.model.parameters()),
        device=device_name(features.device),
        training_seconds=None if resumed else trained - started,
        figures=figures,
    )
    (unfinished / "figures.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    write_card(unfinished, done, plan.census, plan.recipe, plan.mixture, MEASURED)
    unfinished.rename(out / name)
    delete_checkpoint(folder)
    return done


def device_name(device: torch.device) -> str:
    """The device's name, for people."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} thread(s)"


def _identity(plan: BuildPlan, people: Iterable[int], seed: int) -> dict[str, str]:
    return {
        "tower": plan.tower.name,
        "people": f"{plan.census} {list(people)}",
        "recipe": f"{plan.recipe} {plan.mixture} seed {seed}",
    }
