"""What a run or an evaluation is given: the job's own sets, and what the worker's catalog has for its model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.catalog import Catalog, ModelEntry, RetainSet
from jobs.settings import Settings
from jobs.states import Kind
from jobs.storage.inputs import JobInputs
from jobs.tables import Job
from vgid_core import PairSet, PhotoSet, UnlearnConfig
from vgid_core.data.roles import ABOUT_KNOWN
from vgid_core.data.subjects import Subjects
from vgid_core.spec import OWN
from worker.attempt.line import Line, LineKeeper, replay_set_of
from worker.attempt.not_runnable import JobNotRunnable
from worker.checkpoint_folder import checkpoint_folder

if TYPE_CHECKING:
    from vgid_core import EvaluationSpec, UnlearnSpec


@dataclass(frozen=True)
class RequestOfRun:
    """A job that takes part in the run, its uploads, and the folder of its artifact."""

    job: Job
    inputs: JobInputs = field(repr=False)
    out: Path


@dataclass(frozen=True)
class Run:
    """A run. registered: the model's sets about others among its sets, by their place in the catalog."""

    spec: UnlearnSpec
    registered: Mapping[str, PairSet] = field(repr=False)


def unlearn_run(settings: Settings, requests: Sequence[RequestOfRun], line: Line, keeper: LineKeeper) -> Run:
    """The run that the jobs ask for, from where the line is; its own is the first. Raises JobNotRunnable or DataError.

    Whoever is forgotten is withheld from sets about others: a true answer about them would be taught, or counted as
    lost.
    """
    own, *companions = requests
    model = _model(settings, own.job)
    sets = _sets(model, own.job, own.inputs)
    sets["unseen_faces"] = _read_photos(model.unseen_faces, "unseen_faces")
    sets["unlabelled"] = _read_photos(model.unlabelled, "unlabelled")
    clients = {request.job.client_id for request in requests}
    if len(clients) > 1:
        sets["config"] = _without_retries(sets["config"])
    by_label = {OWN: own, **{str(each.job.id): each for each in companions}}
    new_replay_sets = {
        label: replay_set_of(each.inputs.forget) for label, each in by_label.items() if each.job.replay_days is not None
    }
    jobs = {label: each.job for label, each in by_label.items()}
    # Imported late: the checks above fail before torch takes its seconds to load.
    from vgid_core import UnlearnSpec
    from vgid_core.spec import Request

    spec = UnlearnSpec(
        **sets,
        model_name=model.name,
        start=line.start,
        replay_sets={str(job_id): replay_set for job_id, replay_set in line.replay_sets_of(jobs.values()).items()},
        replay_checks=line.replay_checks(jobs, model.config.verdict, new_replay_sets),
        together={str(each.job.id): Request(each.inputs.forget, each.out, each.inputs.probes) for each in companions},
        forgotten=_forgotten(sets, line.marks, keeper),
        own_retain=own.job.retain_pairs is not None,
        private=line.rebuilt is None and len(clients | line.clients) > 1,
        out=own.out,
        checkpoint=checkpoint_folder(settings, own.job.id),
        checkpoint_seconds=settings.checkpoint_seconds,
        keep_checkpoint=True,  # the attempt deletes it, once the artifact is stored
    )
    return Run(spec, _registered(model, own.job, sets))


def _without_retries(config: UnlearnConfig) -> UnlearnConfig:
    """A run of several clients doesn't train again where a target is missed: one of them would hold up the others."""
    return config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"retries": 0})})


def _registered(model: ModelEntry, job: Job, sets: Mapping[str, Any]) -> dict[str, PairSet]:
    name = job.retain_set or model.default_retain_set
    retain = "retain" if job.retain_pairs is None else "registered_retain"
    places = {
        retain: f"retain_sets.{name}.retain",
        "utility": f"retain_sets.{name}.utility",
        "neighbours": "neighbours",
    }
    return {place: sets[role] for role, place in places.items() if sets[role] is not None}


def _forgotten(sets: Mapping[str, Any], marks: frozenset[str], keeper: LineKeeper) -> Subjects:
    """Whoever of the sets about others is marked."""
    about_others = (sets.get(name) for name in (*ABOUT_KNOWN, "unseen_faces", "unlabelled"))
    return keeper.marked([items for items in about_others if items is not None], marks)


def evaluation_spec(
    settings: Settings, job: Job, inputs: JobInputs, adapter: Path | None, keeper: LineKeeper
) -> EvaluationSpec:
    """The evaluation that the job asks for, of the adapter in this folder. Raises JobNotRunnable or DataError."""
    sets = _sets(_model(settings, job), job, inputs)
    from vgid_core import EvaluationSpec

    marks: frozenset[str] = frozenset() if adapter is None else keeper.marks_at(job)
    own_retain = job.retain_pairs is not None
    return EvaluationSpec(**sets, adapter=adapter, forgotten=_forgotten(sets, marks, keeper), own_retain=own_retain)


def _model(settings: Settings, job: Job) -> ModelEntry:
    model = Catalog.load(settings.catalog).model(job.model)
    if model is None:
        raise JobNotRunnable("model-unavailable", "The model isn't in this worker's catalog any more.")
    return model


def _sets(model: ModelEntry, job: Job, inputs: JobInputs) -> dict[str, Any]:
    """What both specs have: the model, the settings and the sets of pairs."""
    registered = _registered_retain_set(model, job)
    of_model = _read_pairs(None if registered is None else registered.retain, "retain")
    retain = of_model if inputs.retain is None else inputs.retain
    if retain is None:
        raise JobNotRunnable("retain-set-unavailable", "The job has no retain set.")
    return {
        "model": model.path,
        "forget": inputs.forget,
        "retain": retain,
        "registered_retain": None if inputs.retain is None else of_model,
        "utility": _read_pairs(None if registered is None else registered.utility, "utility"),
        "probes": inputs.probes,
        "unseen": _read_pairs(model.unseen, "unseen"),
        "neighbours": _read_pairs(model.neighbours, "neighbours"),
        # A rebuild is an operator's, and goes by what the model is registered with.
        "config": model.config if job.kind is Kind.rebuild else UnlearnConfig.model_validate(job.config),
    }


def _read_pairs(source: Path | None, name: str) -> PairSet | None:
    return None if source is None else PairSet.from_jsonl(source, name)


def _read_photos(source: Path | None, name: str) -> PhotoSet | None:
    return None if source is None else PhotoSet.read(source, name)


def _registered_retain_set(model: ModelEntry, job: Job) -> RetainSet | None:
    """The model's retain set that the job names, else the model's only one, else None.

    A job with retain pairs of its own gets the set too: whatever it brings, the model's own people stay.
    """
    name = job.retain_set or model.default_retain_set
    if name is None:
        return None
    if name not in model.retain_sets:
        raise JobNotRunnable("retain-set-unavailable", "The retain set isn't in this worker's catalog any more.")
    return model.retain_sets[name]
