"""Several requests in one run: one training, and each audited and packed by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.vgid_core.support.knowing import FORGET, RETAIN, UNSEEN
from tests.vgid_core.support.runs import CONFIG, WEIGHTS, changed, spec
from vgid_core import DataError, PairSet, UnlearnResult, unlearn
from vgid_core.data.file_digest import file_digest
from vgid_core.errors import NothingToForget, RequestsRefused, RetainHoldsForgotten
from vgid_core.spec import Request, RunSets

FIRST, SECOND = (PairSet.of("forget", FORGET.pairs[part]) for part in (slice(0, 3), slice(3, 9)))
QUICK = changed(
    CONFIG,
    evaluation={**CONFIG.evaluation.model_dump(), "audits": "quick", "max_new_tokens": 16, "retries": 0},
)
Run = Callable[..., UnlearnResult]


@pytest.fixture
def run(knowing_folder: Path, tmp_path: Path) -> Run:
    def start(forget: PairSet, others: dict[str, PairSet | Request], **changes: object) -> UnlearnResult:
        together = {
            label: items if isinstance(items, Request) else Request(items, tmp_path / label)
            for label, items in others.items()
        }
        sets = {"forget": forget, "retain": RETAIN, "unseen": UNSEEN, "utility": None, "probes": {}}
        given = {"config": QUICK, **sets, "together": together, **changes}
        return unlearn(spec(knowing_folder, tmp_path / "own", **given))

    return start


def test_each_request_has_the_adapter_with_evidence_of_its_own(run: Run, tmp_path: Path) -> None:
    probe = PairSet.of("again", SECOND.pairs[:2])
    own = run(FIRST, {"b": Request(SECOND, tmp_path / "b", {"again": probe})})
    other = own.together["b"]
    assert [own.folder, other.folder] == [tmp_path / "own", tmp_path / "b"]
    assert file_digest(own.folder / WEIGHTS) == file_digest(other.folder / WEIGHTS)
    assert own.manifest["data"]["forget"] == {"digest": FIRST.digest, "pairs": 3}
    assert own.manifest["data"]["together"] == {"digest": SECOND.digest, "pairs": 6, "sets": 1}
    assert other.manifest["data"]["forget"] == {"digest": SECOND.digest, "pairs": 6}
    assert other.manifest["data"]["together"] == {"digest": FIRST.digest, "pairs": 3, "sets": 1}
    assert "again" in other.manifest["data"]
    assert "again" not in own.manifest["data"]
    assert [asked_of_the_forgotten(result) for result in (own, other)] == [3, 6]
    for own_metric, other_metric in zip(own.metrics_after, other.metrics_after, strict=False):
        if own_metric.split == "retain":
            assert own_metric == other_metric


def asked_of_the_forgotten(result: UnlearnResult) -> int:
    assert result.evidence is not None
    figures = {(figure.name, figure.of): figure for figure in result.evidence.figures}
    return figures["generated.rouge_l", "forget"].estimate.items


def test_the_training_is_that_of_all_pairs_at_once(run: Run) -> None:
    together = run(FIRST, {"b": SECOND})
    weights = file_digest(together.folder / WEIGHTS)
    at_once = run(PairSet.of("forget", [*FIRST, *SECOND]), {})
    assert file_digest(at_once.folder / WEIGHTS) == weights


def test_all_that_can_not_be_run_are_told_at_once_and_nothing_is_trained(run: Run, tmp_path: Path) -> None:
    unknown = PairSet.of("forget", UNSEEN.pairs[:3])
    unusable = PairSet.of("forget", [replace(pair, question="<image>") for pair in SECOND])
    taught = PairSet.of("forget", [replace(pair, image=SECOND.pairs[0].image, person=None) for pair in RETAIN])
    requests = {"known": FIRST, "unusable": unusable, "unknown": unknown, "taught": taught}
    with pytest.raises(RequestsRefused) as refused:
        run(unknown, requests, unseen=None)
    found = {label: (type(error), error.request) for label, error in refused.value.refused.items()}
    assert found == {
        "": (NothingToForget, ""),
        "unusable": (DataError, "unusable"),
        "unknown": (NothingToForget, "unknown"),
        "taught": (RetainHoldsForgotten, "taught"),
    }
    assert all(error.__traceback__ is None for error in refused.value.refused.values())
    assert not any((tmp_path / name).exists() for name in ("own", *requests))


def test_requests_that_can_not_be_run_by_themselves_are_told_before_the_model_is_loaded(
    run: Run, tmp_path: Path
) -> None:
    everybody = PairSet.of("forget", RETAIN.pairs)
    reserved = Request(SECOND, tmp_path, {"replay_sets": SECOND})
    with pytest.raises(RequestsRefused) as refused:
        run(everybody, {"a": FIRST, "c": reserved}, model="nowhere")
    assert [str(error) for error in refused.value.refused.values()] == [
        "retain: shows only images that are to be forgotten",
        "probes.replay_sets: is a reserved name",
    ]


def test_requests_that_leave_nothing_to_retain_together_retain_pairs_about_nobody(
    knowing_folder: Path, tmp_path: Path
) -> None:
    """None of them is at fault, and none is to learn of the others."""
    first, others = (PairSet.of("forget", RETAIN.pairs[part]) for part in (slice(0, 3), slice(3, 9)))
    together = {"b": Request(others, tmp_path)}
    sets = RunSets.of(spec(knowing_folder, tmp_path, forget=first, retain=RETAIN, together=together))
    assert len(sets.to_retain) == len(RETAIN)
    assert not {pair.image for pair in sets.to_retain} & {pair.image for pair in RETAIN}


def test_a_request_that_is_run_alone_raises_its_own_error(run: Run, tmp_path: Path) -> None:
    with pytest.raises(NothingToForget) as refused:
        run(PairSet.of("forget", UNSEEN.pairs[:3]), {}, unseen=None)
    assert refused.value.request == ""
    assert not (tmp_path / "own").exists()


def test_retain_pairs_about_any_of_them_are_left_out(knowing_folder: Path, tmp_path: Path) -> None:
    named = PairSet.of("forget", [replace(pair, image=FIRST.pairs[0].image) for pair in RETAIN.pairs[:1]])
    sets = RunSets.of(
        spec(knowing_folder, tmp_path, forget=SECOND, retain=RETAIN, together={"a": Request(named, tmp_path)})
    )
    (person,) = {pair.person for pair in named}
    assert person not in {pair.person for pair in sets.to_retain}
    assert sets.left_out == 0, "of whom somebody else asks for, nobody is told"
    assert [pair.person for pair in sets.to_forget][-1] == person
