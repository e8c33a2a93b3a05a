"""Whoever is forgotten for one client leaves no trace in what another client sees, and takes nobody else along."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from api.views.job import JobView
from jobs import repository
from jobs.clients import access
from jobs.lines import marks
from jobs.lines.marks import Withheld
from jobs.states import Kind, State
from jobs.storage.inputs import JobInputs
from jobs.tables import Artifact, Job
from tests.vgid_core.support.knowing import FORGET, RETAIN, UNSEEN
from tests.vgid_core.support.tiny import picture
from tests.worker.harness import LOOSE, TRAINING, Ledger, targets_of
from vgid_core import Pair, PairSet

ADA, BO, CY = (PairSet.of("forget", FORGET.pairs[3 * index : 3 * index + 3]) for index in range(3))
# As a client's own retain set: one of nobody's photos under a name, and a photo of somebody.
BY_NAME = PairSet.of("retain", [Pair(picture(90), "Who is this?", "This is Ada Quill.", "Ada Quill")])
BY_PHOTO = PairSet.of("retain", [replace(ADA.pairs[1], person=None, fact=None)])
# One pair that asks by a name, and one that the base knows: by both, a mean would tell which of them counts.
BY_FIGURE = PairSet.of("retain", [replace(BY_NAME.pairs[0], answer="zzz qqq"), RETAIN.pairs[0]])
BY_PHOTO_AND_FIGURE = PairSet.of("retain", [replace(BY_PHOTO.pairs[0], answer="zzz qqq"), RETAIN.pairs[0]])
# What two lines that differ in one forgotten person may differ in, in what a client of neither person sees. Figures of
# the model after the training are those of another adapter; the rest are ids, times, and keyed or signed digests.
FIGURES = {"value", "low", "high", "amount", "after", "held", "loss_forget", "loss_retain"}
OF_ITS_OWN = {
    "id", "created_at", "started_at", "finished_at", "estimated_finish_at", "seconds", "hmac-sha256", "files", "start",
    "links", "sha256", "size_bytes", "serving", "inputs_deleted_at",
}  # fmt: skip

RunJob = Callable[..., Job]


@pytest.fixture
def run_job(ledger: Ledger, run_here: Callable[[UUID], Job], knowing_folder: Path) -> RunJob:
    """Runs a job in this process: by a client's name, on a model whose registered set holds everybody."""
    folder = ledger.settings.catalog.parent
    UNSEEN.write_jsonl(folder / "unseen.jsonl")
    PairSet.of("retain", [*RETAIN, *ADA, *BO]).write_jsonl(folder / "everybody.jsonl")
    entries = [
        f"[models.{name}]\npath = '{knowing_folder}'\ntitle = 'Tiny'\nunseen = 'unseen.jsonl'\n"
        f"neighbours = 'everybody.jsonl'\n[models.{name}.retain_sets.all]\nretain = 'everybody.jsonl'\n"
        f"{targets_of(name)}"
        for name in ("tiny", "second")
    ]
    ledger.settings.catalog.write_text("".join(entries))
    clients: dict[str, UUID] = {}

    def run(client: str, forget: PairSet, retain: PairSet | None = None, **columns: Any) -> Job:
        with ledger.sessions.begin() as s:
            clients[client] = clients.get(client) or access.create_client(s, client).id
        config = {"training": TRAINING, "verdict": LOOSE}
        inputs = JobInputs(forget, retain)
        return run_here(ledger._submit(config, "quick", False, inputs, client_id=clients[client], **columns))

    return run


def figures(ledger: Ledger, job: Job) -> dict[str, dict[tuple[str, str], float]]:
    """By stage, the job's metrics by set and name."""
    found: dict[str, dict[tuple[str, str], float]] = {"before": {}, "after": {}}
    with ledger.sessions() as s:
        for row in repository.metrics_of(s, job.id):
            found[row.stage][row.split, row.name] = row.value
    return found


def withheld(ledger: Ledger, model: str = "tiny") -> dict[str, Withheld]:
    with ledger.sessions() as s:
        return {each.withheld.place: each.withheld for each in marks.withheld_by_job(s, model)}


@pytest.mark.parametrize("own", [BY_NAME, BY_PHOTO], ids=["name", "photo"])
def test_nobody_can_ask_by_a_retain_set_of_its_own_who_is_forgotten(
    run_job: RunJob, ledger: Ledger, own: PairSet
) -> None:
    """Whether somebody has had Ada forgotten changes neither state, error, outcome nor counts of another's job."""
    assert run_job("an office", ADA, model="tiny").outcome == "forgotten"
    assert run_job("an office", BO, model="second").outcome == "forgotten"
    asked, answered = (run_job("another", CY, own, model=model) for model in ("tiny", "second"))
    assert asked.state is State.succeeded, asked.error_detail
    assert without(seen(ledger, asked)) == without(seen(ledger, answered))


def test_two_lines_that_differ_in_one_forgotten_person_look_the_same_to_another_client(
    run_job: RunJob, ledger: Ledger
) -> None:
    """Counts, sets, errors, states, claims and what was measured before are the same, byte for byte."""
    assert run_job("an office", ADA, model="tiny", replay_days=30).outcome == "forgotten"
    both = PairSet.of("forget", [*ADA, *BO])
    assert run_job("an office", both, model="second", replay_days=30).outcome == "forgotten"
    one, two = (run_job("another", CY, model=model) for model in ("tiny", "second"))
    assert one.state is State.succeeded, one.error_detail
    assert without(seen(ledger, one)) == without(seen(ledger, two))
    own = seen(ledger, one)
    assert own["manifest"]["data"].keys() == {"forget", "retain", "unseen", "neighbours"}
    assert not [row for row in own["evidence"]["figures"] if row["set"] == "replay_sets"]
    drops = {row["set"]: row for row in own["evidence"]["figures"] if row["figure"] == "everyone_else.drop"}
    assert (drops["neighbours"]["people"], drops["neighbours"]["items"]) == (5, 15), "all that are registered"


@pytest.mark.parametrize("own", [BY_FIGURE, BY_PHOTO_AND_FIGURE, None], ids=["name", "photo", "registered"])
def test_an_evaluation_of_the_base_tells_nothing_of_anybody(
    run_job: RunJob, ledger: Ledger, own: PairSet | None
) -> None:
    """The base is the same, whoever is forgotten: so is every figure of it, before and after."""
    assert run_job("an office", ADA, model="tiny").outcome == "forgotten"
    assert run_job("an office", BO, model="second").outcome == "forgotten"
    asked, answered = (
        figures(ledger, run_job("another", CY, own, model=model, kind=Kind.evaluate)) for model in ("tiny", "second")
    )
    assert asked == answered
    assert asked["before"] == asked["after"]


def test_a_runs_figures_of_an_own_retain_set_count_all_of_it(run_job: RunJob, ledger: Ledger) -> None:
    """Were a pair left out for somebody's mark, the mean over the other one would tell."""
    assert run_job("an office", ADA, model="tiny").outcome == "forgotten"
    assert run_job("an office", BO, model="second").outcome == "forgotten"
    found = [figures(ledger, run_job("another", CY, BY_FIGURE, model=model))["after"] for model in ("tiny", "second")]
    assert found[0]["retain", "rouge_l"] == pytest.approx(found[1]["retain", "rouge_l"], abs=0.2)


def test_the_names_of_others_replay_sets_change_no_count_and_no_guard(run_job: RunJob, ledger: Ledger) -> None:
    """A name counts for the request alone that it is confirmed for."""
    assert run_job("an office", ADA, model="tiny", replay_days=30).outcome == "forgotten"
    assert run_job("an office", BO, model="second", replay_days=30).outcome == "forgotten"
    forget = PairSet.of("forget", [*CY, Pair(picture(29), "What is shown?", "A cup.", "Ada Quill")])
    retain = [Pair(picture(90), "Who is this?", "zzz qqq", "Ada Quill"), *RETAIN.pairs[:3]]
    counted = []
    for model in ("tiny", "second"):
        done = run_job("another", forget, PairSet.of("retain", retain), model=model)
        assert done.state is State.succeeded, done.error_detail
        counted.append(without(seen(ledger, done))["manifest"]["data"])
    assert counted[0] == counted[1]
    copied = PairSet.of("retain", [replace(retain[0], answer="This is Cy Teal."), *retain[1:]])
    refused = [run_job("another", forget, copied, model=model) for model in ("tiny", "second")]
    assert refused[0].error_type == refused[1].error_type


def test_of_a_clients_own_people_evidence_says_everything(run_job: RunJob, ledger: Ledger) -> None:
    run_job("an office", ADA, replay_days=30)
    found = seen(ledger, run_job("an office", CY))
    assert [row["value"] for row in found["evidence"]["figures"] if row["figure"] == "earlier.known_again"]
    assert found["manifest"]["data"]["replay_sets"] == {"sets": 1}


def test_a_name_that_the_base_contradicts_is_refused_with_the_pairs_index(run_job: RunJob, ledger: Ledger) -> None:
    """Photos of Cy under the name of somebody who is retained would take that person out of everybody's set."""
    mislabelled = PairSet.of(
        "forget", [*CY.pairs[:2], replace(CY.pairs[2], image=BO.pairs[0].image, person="Dee Moor")]
    )
    refused = run_job("an office", mislabelled)
    assert (refused.state, refused.error_type) == (State.failed, "label-contradicted")
    assert "forget[2].person" in str(refused.error_detail)
    assert "Moor" not in str(refused.error_detail)
    assert not withheld(ledger)


def test_a_clients_own_retain_set_confirms_no_name(run_job: RunJob, ledger: Ledger) -> None:
    """A photo of nobody under somebody's name, in both of a request's sets, takes that person out of no other set."""
    noise = Pair(picture(91), "What is this?", "Something.", "Dee Moor")
    forget = PairSet.of("forget", [*CY, noise])
    retain = PairSet.of("retain", [replace(noise, question="And this?"), *RETAIN.pairs[3:]])
    run_job("an office", forget, retain)
    assert withheld(ledger).get("neighbours", Withheld("neighbours", 0, 0, 15)).pairs == 0


def test_a_name_counts_only_where_something_confirms_it(run_job: RunJob, ledger: Ledger, caplog: Any) -> None:
    """The base names Bo on his photo, and calls nobody by a code."""
    named = PairSet.of("forget", [*BO, *(replace(pair, person="subject-1") for pair in CY)])
    with caplog.at_level(logging.WARNING):
        done = run_job("an office", named)
    assert done.outcome == "forgotten", done.error_detail
    found = withheld(ledger)["retain_sets.all.retain"]
    assert (found.pairs, found.to_agree, found.of) == (3, 0, 15)
    assert f"job {done.id} takes 3 of 15 pairs out of retain_sets.all.retain" in caplog.messages
    with ledger.sessions() as s:
        assert sum(not mark.in_force for mark in s.query(marks.Mark)) == 1, "subject-1 waits for an operator"


def seen(ledger: Ledger, job: Job) -> dict[str, Any]:
    """What the job's client can read of it, whatever its model is called."""
    with ledger.sessions() as s:
        found = {
            "job": JobView.of(job, 3).model_dump(mode="json"),
            "evidence": repository.evidence_of(s, job.id),
            "manifest": s.get_one(Artifact, job.id).manifest,
            "metrics": [row._asdict() for row in repository.metrics_of(s, job.id)],
            # Progress is told once a second.
            "events": [
                [event.kind, event.data]
                for event in repository.events_after(s, job.id, 0, 1000)
                if event.kind != "progress"
            ],
        }
    read: dict[str, Any] = json.loads(json.dumps(found).replace(f'"{job.model}"', '"a model"'))
    return read


def without(document: Any, stage: str = "") -> Any:
    """The same without what may differ: see FIGURES and OF_ITS_OWN. Figures of the base stay."""
    if isinstance(document, list):
        return [without(each, stage) for each in document]
    if not isinstance(document, dict):
        return document
    stage = document.get("stage", stage)
    left = {}
    for name, value in document.items():
        of_the_base = stage == "before" and name in FIGURES
        if of_the_base or name not in FIGURES | OF_ITS_OWN:
            left[name] = without(value, name if name in ("before", "after") else stage)
    return left
