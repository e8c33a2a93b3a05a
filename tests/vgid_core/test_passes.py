"""What a run is told to cost, beside the pairs that really go through the decoder."""

import random
from collections.abc import Sequence
from itertools import groupby

import pytest

from tests.vgid_core.tiny import pair_set
from vgid_core.config import UnlearnConfig
from vgid_core.config.methods import VgidAlias
from vgid_core.data.batches import draw_batches
from vgid_core.lora.attach import attach_adapter
from vgid_core.methods import setup
from vgid_core.methods.base import MethodContext
from vgid_core.methods.vgid_alias.made_up import made_up_pairs
from vgid_core.models.base import BaseModel
from vgid_core.scoring.packed.model import Exchange, PackedModel
from vgid_core.scoring.packed.scorer import PackedScorer
from vgid_core.training.forward_cost import PASSES_WORTH_COMPILING, STUDENT_PASSES, run_passes
from vgid_core.training.step import Distiller

FORGET, RETAIN = pair_set("forget", 5), pair_set("retain", 6, first_picture=50)
STEPS, BATCH = 3, 4
METHODS = [
    {"name": "vgid-alias", "draws": 3, "common_share": 0.3},
    {"name": "vgid-alias", "draws": 3, "made_up_pairs": 0},
    {"name": "vgid"},
    {"name": "vgid", "perturbation": {"kind": "blank"}},
    {"name": "graddiff"},
    {"name": "ga"},
    {"name": "npo"},
    {"name": "kl-min"},
]


def config(method: dict[str, object]) -> UnlearnConfig:
    training = {"steps": STEPS, "forget_batch_size": BATCH, "retain_batch_size": BATCH}
    return UnlearnConfig.model_validate({"method": method, "training": training, "device": "cpu"})


def ways_forward(base: BaseModel, settings: UnlearnConfig, monkeypatch: pytest.MonkeyPatch) -> int:
    """Pairs that go forward in a whole run, but those of the base whose targets are the pairs' own, and kept."""
    passed = 0
    run = MethodContext(base, PackedScorer(base), settings.training, settings.seed, FORGET, RETAIN)
    kept_images = {pair.image for pair in [*FORGET, *RETAIN]}
    if isinstance(settings.method, VgidAlias):
        kept_images |= {pair.image for pair in made_up_pairs(settings.method, run)}
    inner = PackedModel.states

    def counting(self: PackedModel, exchanges: Sequence[Exchange], kept: bool = False) -> object:
        nonlocal passed
        own = kept and all(exchange.image in kept_images for exchange in exchanges)
        # Forms of one alias come one after the other.
        pairs = groupby(exchanges, lambda exchange: (id(exchange.image), exchange.question, exchange.answer))
        passed += 0 if own else len(list(pairs))
        return inner(self, exchanges, kept)

    monkeypatch.setattr(PackedModel, "states", counting)
    trainer = Distiller(run.scorer, attach_adapter(base, settings.lora), settings)
    updates = setup(settings.method, run)
    rng = random.Random(0)
    forget, retain = draw_batches(FORGET, BATCH, rng), draw_batches(RETAIN, BATCH, rng)
    for _ in range(STEPS):
        for update in updates(next(forget), next(retain)):
            trainer.update(update)
    return passed


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_as_many_pairs_go_through_the_decoder_as_were_told(
    base: BaseModel, method: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(method)
    drawn = STEPS * BATCH
    taught = settings.method.teacher_passes(drawn, len(FORGET))
    students = (run_passes(settings, len(FORGET), len(RETAIN)) - taught) // STUDENT_PASSES
    assert ways_forward(base, settings, monkeypatch) == students + taught


def test_the_default_methods_teachers_count_once_a_forget_pair_however_many_steps_there_are() -> None:
    few, many = (config({"name": "vgid-alias"}).model_copy(update={"training": training(steps)}) for steps in (30, 60))
    more = run_passes(many, 50, 50) - run_passes(few, 50, 50)
    assert more == STUDENT_PASSES * (2 * BATCH + VgidAlias().made_up_pairs) * 30
    asking = config({"name": "vgid-alias", "visible_questions": ["Which shirt?"], "visible_pairs": 3})
    assert run_passes(asking, 50, 50) == run_passes(config({"name": "vgid-alias"}), 50, 50) + STUDENT_PASSES * 3 * STEPS


def test_without_a_retain_weight_its_batches_count_nothing() -> None:
    settings = config({"name": "graddiff"})
    alone = settings.model_copy(update={"training": settings.training.model_copy(update={"retain_weight": 0.0})})
    assert run_passes(alone, 5, 5) == run_passes(settings, 5, 5) // 2


def test_compiling_pays_from_5000_of_vgids_pairs_on() -> None:
    """What was measured: 9 ms a pair against some 40 s."""
    pairs = training(steps=1250)
    vgid = config({"name": "vgid"}).model_copy(update={"training": pairs})
    assert run_passes(vgid, 150, 150) == PASSES_WORTH_COMPILING


def training(steps: int) -> object:
    return config({"name": "vgid"}).training.model_copy(update={"steps": steps})
