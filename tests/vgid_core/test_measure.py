"""Evaluations: an adapter, or the base alone, measured without a training, on a tiny model that knows a few people."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.vgid_core.support.knowing import FORGET, RETAIN, UNSEEN
from tests.vgid_core.support.runs import CONFIG as SHORT
from tests.vgid_core.support.runs import WEIGHTS, changed, spec
from tests.vgid_core.support.speaking import learn_by_heart
from tests.vgid_core.support.tiny import pair_set
from vgid_core import (
    DataError,
    EvaluationResult,
    EvaluationSpec,
    PairSet,
    Progress,
    UnlearnConfig,
    evaluate_adapter,
    unlearn,
)
from vgid_core.config import VerdictTargets
from vgid_core.data.file_digest import file_digest
from vgid_core.errors import AdapterForOtherBase, ModelNotLoadable
from vgid_core.models.load import digest_of, load_base

LOOSE = {name: 0.5 if name in ("ranking", "membership") else 1 for name in VerdictTargets.model_fields}
Measure = Callable[..., EvaluationResult]


def config(level: str = "quick", **verdict: float) -> UnlearnConfig:
    asked = {**SHORT.evaluation.model_dump(), "audits": level, "max_new_tokens": 16, "retries": 0}
    return changed(SHORT, evaluation=asked, verdict=verdict)


@pytest.fixture
def measure(knowing_folder: Path) -> Measure:
    """Measures the knowing model, with an adapter if one is given, on two people whom it knows."""

    def start(on_step: Callable[[Progress], None] | None = None, **changes: object) -> EvaluationResult:
        values = {"model": str(knowing_folder), "adapter": None, "forget": FORGET, "retain": RETAIN}
        values |= {"unseen": UNSEEN, "config": config()}
        return evaluate_adapter(EvaluationSpec(**(values | changes)), on_step)

    return start


@pytest.fixture(scope="module")
def adapter(knowing_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of a short run, with the evidence of that run beside it."""
    out = tmp_path_factory.mktemp("adapter") / "out"
    sets = {"forget": FORGET, "retain": RETAIN, "unseen": UNSEEN, "utility": None, "probes": {}}
    unlearn(spec(knowing_folder, out, config=config(), **sets))
    return out


def test_a_base_that_knows_misses_its_targets(measure: Measure, knowing_folder: Path) -> None:
    reports: list[Progress] = []
    found = measure(reports.append)
    verdict = found.evidence.verdict
    assert (verdict.outcome, verdict.passed) == ("targets-not-met", False)
    assert {each.figure.name for each in verdict.missed} >= {
        "generated.rouge_l",
        "extraction_strength",
        "prefill.up_to_fact",
    }
    assert not [each for each in verdict.missed if each.figure.name == "everyone_else.drop"]
    assert found.metrics_before == found.metrics_after
    assert dict(found.measured) == {
        "base_digest": digest_of(str(knowing_folder)),
        "adapter_sha256": None,
        "pairs": {"forget": len(FORGET), "retain": len(RETAIN), "unseen": len(UNSEEN)},
    }
    assert list(dict.fromkeys(str(each.phase) for each in reports)) == ["loading", "baseline", "evaluating"]
    fractions = [each.fraction for each in reports]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert {each.total_steps for each in reports} == {0}


def test_a_base_that_knows_nobody_has_nothing_to_forget(measure: Measure, tiny_folder: Path) -> None:
    found = measure(model=str(tiny_folder))
    assert (found.evidence.verdict.outcome, found.metrics_after) == ("nothing-to-forget", [])
    document = found.as_json()
    assert document["verdict"]["targets"] == []
    assert document["verdict"]["unmeasured"] == ["everything else: the model doesn't know these answers"]
    assert {figure["figure"] for figure in document["figures"]} >= {"knowledge", "extraction_strength"}


def test_an_adapter_is_measured_as_its_own_run_measured_it(measure: Measure, adapter: Path) -> None:
    found = measure(adapter=adapter)
    of_run = json.loads((adapter / "evidence.json").read_text())
    assert found.measured["adapter_sha256"] == file_digest(adapter / WEIGHTS)
    document = found.as_json()
    assert {name for name in document if name not in of_run} == {"measured"}
    own, theirs = ({(each["figure"], each["set"]): each for each in one["figures"]} for one in (document, of_run))
    assert own.keys() == theirs.keys()
    for key, figure in own.items():
        assert figure["value"] == pytest.approx(theirs[key]["value"], abs=1e-3), key
    assert found.metrics_before != found.metrics_after
    for text in ("Ada", "Fernmoor", "Gus"):
        assert text not in json.dumps(document), "no text of the sets is in the evidence"


def test_the_request_says_what_counts_as_forgotten(measure: Measure, adapter: Path) -> None:
    assert measure(adapter=adapter, config=config(**LOOSE)).evidence.verdict.outcome == "forgotten"


@pytest.mark.parametrize("level", ["standard", "full"])
def test_every_level_runs_on_an_adapter_and_on_the_base_alone(measure: Measure, adapter: Path, level: str) -> None:
    for each in (adapter, None):
        found = measure(adapter=each, config=config(level))
        assert found.evidence.level == level
        assert {figure.name for figure in found.evidence.figures} >= {"relearning.in_domain_20", "in_context"}


def test_an_adapter_for_another_base_is_refused(measure: Measure, adapter: Path, tiny_folder: Path) -> None:
    with pytest.raises(AdapterForOtherBase, match="another base"):
        measure(model=str(tiny_folder), adapter=adapter)


def test_an_adapter_that_is_none_is_refused(measure: Measure, tmp_path: Path) -> None:
    with pytest.raises(ModelNotLoadable, match=r"no adapter_config\.json"):
        measure(adapter=tmp_path)


def test_unusable_sets_are_refused(measure: Measure) -> None:
    with pytest.raises(DataError, match="reserved"):
        measure(probes={"retain": RETAIN})
    with pytest.raises(DataError):
        measure(retain=pair_set("retain", 2))  # the photos of those who are asked


def test_an_evaluation_has_audits(measure: Measure) -> None:
    with pytest.raises(ValueError, match="level of audits"):
        measure(config=SHORT)


def test_others_names_are_those_of_every_registered_set(measure: Measure, knowing_folder: Path, tmp_path: Path) -> None:
    """The reference model takes everybody for a neighbour, whom the retain set doesn't name."""
    reference_model = load_base(str(knowing_folder), UnlearnConfig(device="cpu"))
    learn_by_heart(reference_model, [replace(pair, answer="This is Dee Keep.") for pair in FORGET], steps=60)
    folder = tmp_path / "reference_model"
    shutil.copytree(knowing_folder, folder)
    reference_model.model.save_pretrained(folder)
    known = replace(UNSEEN.pairs[0], answer="This is Dee Keep.", person="Dee Keep", fact="Dee Keep")
    found = measure(reference_model=str(folder), neighbours=PairSet.of("neighbours", [known]))
    [figure] = [each for each in found.evidence.figures if each.name == "misattributed"]
    assert (figure.of, figure.value, figure.before, figure.reference_model) == ("forget", 0, 0, 1)
    judged = {each.rule.target: each.held for each in found.evidence.verdict.targets}
    assert judged["misattributed"]
