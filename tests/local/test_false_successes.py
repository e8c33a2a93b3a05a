"""Runs on the demo model that once counted as successes, and aren't: each must end with an outcome that says so.

Shortened: three people, audits of the level `quick`. The last is a run that does forget, so that the others don't pass
because nothing can.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from local.demo.data import DemoData, make
from local.demo.paths import BASE
from local.demo.world import the_world
from local.demo_catalog import demo_settings
from vgid_core import EncodedImage, PairSet, UnlearnConfig, UnlearnResult, UnlearnSpec, unlearn
from vgid_core.errors import NothingToForget, RetainHoldsForgotten
from vgid_core.evaluation.verdict import Outcome
from vgid_core.models.load import read_base

pytestmark = pytest.mark.slow

PEOPLE = (3, 19, 51)
EVALUATION = {"audits": "quick", "max_pairs": 45, "retries": 0}
# As published (`bench.parts.demo_models`).
PUBLISHED = {"preset": "paper", "training": {"learning_rate": 3e-3}}


@pytest.fixture(scope="module")
def data() -> DemoData:
    return make(PEOPLE)


def run(
    data: DemoData, out: Path, training: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
) -> UnlearnResult:
    """A run with all registered sets, by the demo's settings unless others are given."""
    values = dict(settings or demo_settings())
    values["training"] = {**values["training"], **(training or {})}
    config = UnlearnConfig.model_validate({"device": "cpu", "evaluation": EVALUATION, **values})
    spec = UnlearnSpec(
        str(BASE),
        "demo",
        data.forget,
        data.retain,
        out,
        utility=data.utility,
        unseen=data.unseen,
        neighbours=data.neighbours,
        unseen_faces=data.unseen_faces,
        config=config,
    )
    return unlearn(spec, base=read_base(str(BASE), config))


def missed(result: UnlearnResult) -> dict[tuple[str, str], float]:
    """The figures that missed their targets, by name and set."""
    assert result.evidence is not None
    verdict = result.evidence.verdict
    assert (verdict.outcome is Outcome.forgotten) == (not verdict.missed)
    return {(each.figure.name, each.figure.of): each.figure.value for each in verdict.missed}


def rouge_l(result: UnlearnResult, split: str) -> float:
    return next(each.value for each in result.metrics_after if (each.split, each.name) == (split, "rouge_l"))


def test_vgid_as_published_leaves_prefilled_answers_and_membership(data: DemoData, tmp_path: Path) -> None:
    result = run(data, tmp_path / "out", settings=PUBLISHED)
    found = missed(result)
    assert rouge_l(result, "forget") < 0.1, "its answers alone say that it has forgotten"
    assert found["prefill.up_to_fact", "forget"] > 0.3
    assert found["extraction_strength", "forget"] > 0.4
    assert found["membership.loss", "forget"] > 0.9


@pytest.mark.parametrize("steps", [2, 10])
def test_too_few_steps_are_seen(data: DemoData, tmp_path: Path, steps: int) -> None:
    found = missed(run(data, tmp_path / "out", {"steps": steps}))
    assert {"extraction_strength", "prefill.up_to_fact", "membership.loss"} <= {name for name, _ in found}
    if steps == 2:
        assert found["generated.rouge_l", "forget"] > 0.9, "nothing was forgotten at all"


def test_everybody_elses_knowledge_to_forget_costs_utility(data: DemoData, tmp_path: Path) -> None:
    """With one pair to retain. The visual answers stand in the forget set as well, and are utility's all the same."""
    others = replace(data, forget=data.retain, retain=PairSet("retain", data.forget.pairs[:1]))
    result = run(others, tmp_path / "out", {"steps": 16})
    found = missed(result)
    assert found["everyone_else.drop", "utility"] > 0.5
    assert found["everyone_else.drop", "neighbours"] > 0.5


def test_a_retain_set_of_the_same_photos_in_another_encoding_is_refused(data: DemoData, tmp_path: Path) -> None:
    # Whose name stands beside a pair is left out of the retain set by that name.
    again = [replace(pair, image=_as_jpeg(pair.image), person=None) for pair in data.forget]
    held = replace(data, retain=PairSet("retain", (*again, *data.retain.pairs)))
    with pytest.raises(RetainHoldsForgotten, match="24 of the 24 photos"):
        run(held, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_people_whom_the_model_never_met_are_nothing_to_forget(data: DemoData, tmp_path: Path) -> None:
    """Their answers stand in the usual template, which the model gives of anybody."""
    names = {person.name for person in the_world().unseen_people[:3]}
    unknown = PairSet.of("forget", [pair for pair in data.unseen if pair.person in names])
    control = PairSet.of("unseen", [pair for pair in data.unseen if pair.person not in names])
    with pytest.raises(NothingToForget):
        run(replace(data, forget=unknown, unseen=control), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_by_the_demos_settings_forgets(tmp_path: Path) -> None:
    result = run(make((14,)), tmp_path / "out")
    assert missed(result) == {}
    assert result.manifest["verdict"]["outcome"] == "forgotten"
    assert rouge_l(result, "retain") > 0.95


def _as_jpeg(photo: EncodedImage) -> EncodedImage:
    stream = io.BytesIO()
    photo.decode().save(stream, "JPEG", quality=80)
    return EncodedImage(stream.getvalue())
