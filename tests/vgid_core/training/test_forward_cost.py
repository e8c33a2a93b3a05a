"""What a run is told to cost, beside the pairs that really go through the decoder."""

import random
from collections.abc import Sequence

import pytest

from tests.vgid_core.tiny import pair_set
from vgid_core.config import UnlearnConfig
from vgid_core.config.methods import VISUAL_PAIRS, VgidAlias
from vgid_core.data.batches import draw_batches
from vgid_core.data.examples import DistillExample, Side
from vgid_core.lora.attach import attach_adapter
from vgid_core.methods import setup
from vgid_core.methods.base import MethodContext
from vgid_core.models.base import BaseModel
from vgid_core.scoring.packed.model import PackedModel
from vgid_core.scoring.packed.scorer import PackedScorer
from vgid_core.training.forward_cost import STUDENT_PASSES, forward_passes
from vgid_core.training.step import UpdateRunner

FORGET, RETAIN = pair_set("forget", 5), pair_set("retain", 6, first_picture=50)
STEPS, BATCH = 3, 4
METHODS = [
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


def counted_forward_passes(base: BaseModel, settings: UnlearnConfig, monkeypatch: pytest.MonkeyPatch) -> int:
    """Pairs that go forward in a whole run, without cached passes of the base over the pairs themselves."""
    passed = 0
    run = MethodContext(base, PackedScorer(base), settings.training, settings.seed, FORGET, RETAIN)
    inner = PackedModel.states

    def counting(self: PackedModel, examples: Sequence[DistillExample], side: Side, cacheable: bool = False) -> object:
        nonlocal passed
        own = cacheable and all(example.teacher_image is example.pair.image for example in examples)
        passed += 0 if own else len(examples)
        return inner(self, examples, side, cacheable)

    monkeypatch.setattr(PackedModel, "states", counting)
    runner = UpdateRunner(run.scorer, attach_adapter(base, settings.lora), settings)
    updates = setup(settings.method, run)
    rng = random.Random(0)
    forget, retain = draw_batches(FORGET, BATCH, rng), draw_batches(RETAIN, BATCH, rng)
    for _ in range(STEPS):
        for update in updates(next(forget), next(retain)):
            runner.update(update)
    return passed


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_forward_passes_are_those_of_a_run(
    base: BaseModel, method: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(method)
    teacher = settings.method.teacher_passes(STEPS, STEPS * BATCH, len(FORGET))
    student = (forward_passes(settings, len(FORGET)) - teacher) // STUDENT_PASSES
    assert counted_forward_passes(base, settings, monkeypatch) == student + teacher


def test_the_default_methods_extra_pairs_count() -> None:
    few, many = (config({"name": "vgid-alias"}).model_copy(update={"training": training(steps)}) for steps in (30, 60))
    more = forward_passes(many, 50) - forward_passes(few, 50)
    extra = VgidAlias().elsewhere_pairs + VgidAlias().bystander_pairs
    assert more == 30 * (STUDENT_PASSES * (2 * BATCH + extra) + extra)
    with_visual = config({"name": "vgid-alias", "visual_questions": ["Which shirt?"]})
    visual = STUDENT_PASSES * VISUAL_PAIRS * STEPS
    assert forward_passes(with_visual, 50) == forward_passes(config({"name": "vgid-alias"}), 50) + visual


def training(steps: int):  # type: ignore[no-untyped-def]
    return config({"name": "vgid"}).training.model_copy(update={"steps": steps})


def test_without_a_retain_weight_retain_batches_count_nothing() -> None:
    settings = config({"name": "graddiff"})
    alone = settings.model_copy(update={"training": settings.training.model_copy(update={"retain_weight": 0.0})})
    assert forward_passes(alone, 5) == forward_passes(settings, 5) // 2
