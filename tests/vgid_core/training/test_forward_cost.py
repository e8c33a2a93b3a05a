"""What a run is said to cost, beside the pairs that really go through the decoder."""

import random
from collections.abc import Sequence

import pytest

from tests.vgid_core.support.tiny import pair_set
from vgid_core.config import UnlearnConfig
from vgid_core.data.batches import draw_batches
from vgid_core.data.examples import DistillExample, Side
from vgid_core.lora.attach import attach_adapter
from vgid_core.methods import setup
from vgid_core.methods.base import MethodContext
from vgid_core.models.base import BaseModel
from vgid_core.scoring.packed.model import PackedModel
from vgid_core.scoring.packed.scorer import PackedScorer
from vgid_core.training.forward_cost import forward_passes
from vgid_core.training.step import UpdateRunner

FORGET, RETAIN = pair_set("forget", 5), pair_set("retain", 6, first_picture=50)
STEPS, BATCH = 3, 4
# In 3 steps of 4 forget and 4 retain pairs each: the pairs that go forward, the student's and the teacher's, and the
# cost, in which the student's backward pass counts as one more.
METHODS = [
    ({"name": "vgid"}, 36, 60),
    ({"name": "vgid", "perturbation": {"kind": "blank"}}, 29, 53),  # one teacher's answer to each of 5 forget pairs
    ({"name": "graddiff"}, 24, 48),
    ({"name": "ga"}, 12, 24),
    ({"name": "npo"}, 24, 48),
    ({"name": "kl-min"}, 24, 48),
]


def config(method: dict[str, object], steps: int = STEPS) -> UnlearnConfig:
    training = {"steps": steps, "forget_batch_size": BATCH, "retain_batch_size": BATCH}
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


@pytest.mark.parametrize(("method", "forward", "cost"), METHODS, ids=str)
def test_forward_passes_are_those_of_a_run(
    base: BaseModel, method: dict[str, object], forward: int, cost: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(method)
    assert counted_forward_passes(base, settings, monkeypatch) == forward
    assert forward_passes(settings, 5) == cost


def test_the_default_methods_extra_pairs_count() -> None:
    """A step of 4 + 2 forget and 4 + 6 retain pairs; teachers of 2 and 6 pairs in it, and 8 for each forget answer."""
    method = {"name": "vgid-substitute", "teachers": 8, "off_target_pairs": 2, "neighbour_pairs": 6}
    assert forward_passes(config(method, steps=30), 50) == 1600
    assert forward_passes(config(method, steps=60), 50) == 2800
    visual = method | {"visual_questions": ["Which shirt?"]}
    assert forward_passes(config(visual, steps=30), 50) == 1720, "two pairs more in a step"


def test_without_a_retain_weight_retain_batches_count_nothing() -> None:
    settings = config({"name": "graddiff"})
    alone = settings.model_copy(update={"training": settings.training.model_copy(update={"retain_weight": 0.0})})
    assert forward_passes(alone, 5) == forward_passes(settings, 5) // 2
