"""A run's place in its model's line: what it starts from, whom it forgets again, and what it leaves for the next."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from jobs.database import SessionFactory
from jobs.lines import forgotten, rebuilds, releases
from jobs.lines.marks import Withheld, name_mark, photo_mark
from jobs.lines.releases import Held, NewRelease, NewReplaySet, Rebuilt
from jobs.lines.replay_sets import open_replay_set
from jobs.storage.blobs import BlobStore
from jobs.storage.crypto import Keyring
from jobs.storage.inputs import JobInputs, seal
from jobs.tables import Job, Release
from vgid_core import Pair, PairSet, PhotoSet
from vgid_core.config import VerdictTargets
from vgid_core.data.replay_checks import ReplayChecks
from vgid_core.data.sampling import even_sample
from vgid_core.data.subjects import Subjects
from vgid_core.data.text_normalization import normalized
from vgid_core.evaluation.estimates import owner
from worker.attempt.not_runnable import JobNotRunnable
from worker.attempt.stored_adapter import unpack_stored

if TYPE_CHECKING:
    from vgid_core import UnlearnResult

log = logging.getLogger(__name__)

_REPLAY_QUESTIONS = 5
# Of other clients' replay sets that one run takes along: however many there are, they mustn't lengthen it, or leave the
# requests of the run few of its steps. With as many, twenty requests in a row are measured to pass (`bench.over_time`).
_OTHERS_PAIRS = 128


@dataclass(frozen=True)
class Line:
    """What the line has before a run.

    parent_id, start: the current release and the folder of its adapter; None where there is none. replay_sets: by job,
    of whom it holds, those that were checked longest ago first. held: by job, what the release says of these. marks:
    those in force of everybody whom the line has forgotten at any time. rebuilt: what a rebuild is to take the place
    of; None for a request.
    """

    parent_id: UUID | None = None
    start: Path | None = None
    replay_sets: Mapping[UUID, PairSet] = field(default_factory=dict, repr=False)
    held: Mapping[UUID, Held] = field(default_factory=dict)
    marks: frozenset[str] = field(default=frozenset(), repr=False)
    rebuilt: Rebuilt | None = None

    def replay_sets_of(self, requests: Collection[Job]) -> dict[UUID, PairSet]:
        """The replay sets that a run of these requests forgets again and checks: not all, if many clients have some.

        A client's own requests take all of its replay sets along. Of those of others, and in a run of several clients
        of everybody's, a part takes its turn. All of them in a rebuild, and where a request has retain pairs of its
        own, which could teach others' people again.
        """
        if self.rebuilt is not None or any(job.retain_pairs is not None for job in requests):
            return dict(self.replay_sets)
        clients = {job.client_id for job in requests}
        taken, left = {}, _OTHERS_PAIRS
        for job_id, replay_set in self.replay_sets.items():
            if clients == {self.held[job_id].client_id}:
                taken[job_id] = replay_set
            elif left > 0:
                taken[job_id] = PairSet(replay_set.name, tuple(even_sample(replay_set.pairs, left)))
                left -= len(taken[job_id])
        return taken

    def replay_checks(
        self, requests: Mapping[str, Job], targets: VerdictTargets, new: Mapping[str, PairSet]
    ) -> ReplayChecks:
        """What of the run's replay sets counts against which of its requests, which go by their labels.

        targets: the model's. new: what is to be kept of them.

        A request is judged by the replay sets of its own client that held until now. What is found of others' is
        recorded: a client could fill its replay sets with what nobody can forget, and fail everybody. Only a request
        with retain pairs of its own must leave all of them forgotten. A rebuild is judged by all replay sets.
        """
        if self.rebuilt is not None:
            return ReplayChecks(targets=targets)
        holding = [job_id for job_id in self.replay_sets_of(requests.values()) if self.held[job_id].still_forgotten]
        own = {
            label: [str(job_id) for job_id in holding if self.held[job_id].client_id == job.client_id]
            for label, job in requests.items()
        }
        clients = {job.client_id for job in requests.values()}
        others = [str(job_id) for job_id in holding if self.held[job_id].client_id not in clients]
        brings_retain_pairs = any(job.retain_pairs is not None for job in requests.values())
        return ReplayChecks(own, others if brings_retain_pairs else (), targets, new)

    @property
    def clients(self) -> frozenset[UUID]:
        """Whose people are kept."""
        return frozenset(self.held[job_id].client_id for job_id in self.replay_sets.keys() & self.held.keys())


@dataclass(frozen=True)
class LineKeeper:
    """Reads a model's line for a run, and prepares what the run adds to it."""

    sessions: SessionFactory
    blobs: BlobStore
    keyring: Keyring

    def before(self, job: Job, folder: Path) -> Line:
        """The job's line as it is now. Its current adapter is unpacked into `folder`.

        Raises JobNotRunnable if the current adapter isn't there any more.
        """
        with self.sessions() as s:
            parent, marks = releases.current(s, job.model, job.line), forgotten.marks(s, job.model, job.line)
            if parent is None:
                return Line(marks=marks)
            archive, keys = releases.zip_of(s, parent, or_of_its_job=True), releases.replay_sets_of(s, parent.id)
            held = sorted(releases.held_by(s, parent.id), key=lambda each: each.checked_in)
        sha256 = None if archive is None else archive.sha256
        unpack_stored(self.blobs, sha256, folder, "current release's adapter")
        opened = self._open_all(keys)
        replay_sets = {each.job_id: replay_set_of(opened[each.job_id]) for each in held if each.job_id in opened}
        return Line(parent.id, folder, replay_sets, {each.job_id: each for each in held}, marks)

    def to_rebuild(self, job: Job) -> Line:
        """What the rebuild works on: all replay sets, and everybody's marks.

        Raises JobNotRunnable if it would leave somebody out whom the operator hasn't agreed to.
        """
        replay_sets: dict[UUID, PairSet] = {}

        def readable(job_id: UUID, key: bytes) -> bool:
            replay_sets.update(self._open_all({job_id: key}))
            return job_id in replay_sets

        with self.sessions() as s:
            current = releases.current(s, job.model, job.line)
            found = forgotten.whom(s, job.model, readable, job.line)
            marks = forgotten.marks(s, job.model, job.line)
        missing = rebuilds.not_agreed(job, found.left_out)
        if missing:
            detail = f"Since the order {len(missing)} more requests have no replay set: order again."
            raise JobNotRunnable("replay-sets-missing", detail)
        replaces = None if current is None else current.id
        return Line(replay_sets=replay_sets, marks=marks, rebuilt=Rebuilt(replaces, tuple(replay_sets)))

    def _open_all(self, keys: Mapping[UUID, bytes]) -> dict[UUID, PairSet]:
        """The replay sets that can be opened. The people of another one aren't checked, and everything else goes on."""
        found = {}
        for job_id, key in keys.items():
            replay_set = open_replay_set(self.blobs, self.keyring, job_id, key)
            if replay_set is None:
                log.warning("the replay set of job %s can't be read", job_id)
            else:
                found[job_id] = replay_set
        return found

    def marks_at(self, evaluation: Job) -> frozenset[str]:
        """The marks of whom the line had forgotten when the adapter that is measured was made.

        Not later ones: measured again, the same adapter gives the same figures, whoever else was forgotten since.
        """
        with self.sessions() as s:
            made_by = evaluation.adapter_of
            if evaluation.release_id is not None:
                made_by = s.get_one(Release, evaluation.release_id).job_id
            made_at = None if made_by is None else s.get_one(Job, made_by).finished_at
            return forgotten.marks(s, evaluation.model, evaluation.line, made_at)

    def marked(self, sets: Iterable[PairSet | PhotoSet], marks: frozenset[str]) -> Subjects:
        """Whoever of these sets is marked."""
        photos: set[str] = set()
        names: set[str] = set()
        for items in sets:
            if isinstance(items, PhotoSet):
                photos |= {photo.digest for photo in items.photos}
            else:
                photos |= {pair.image.digest for pair in items}
                names |= {normalized(pair.person) for pair in items if pair.person is not None}
        return Subjects(
            frozenset(photo for photo in photos if self._photo_mark(photo) in marks),
            frozenset(name for name in names if self._name_mark(name) in marks),
        )

    def after(
        self, job: Job, forget: PairSet, line: Line, registered: Mapping[str, PairSet], result: UnlearnResult
    ) -> NewRelease:
        """What the run adds for one of its jobs. Seals and stores the replay set, if one is to be kept.

        registered: the model's sets about others that the run had, by their place in the catalog.
        """
        manifest = result.manifest
        counted = Subjects.of(forget, result.confirmed_names)
        named = Subjects.of(forget)
        names = {self._name_mark(name) for name in counted.names}
        withheld = [_withheld(place, items, counted, named) for place, items in registered.items()]
        for each in withheld:
            if each.is_much:
                log.warning("job %s takes %d of %d pairs out of %s", job.id, each.pairs, each.of, each.place)
        return NewRelease(
            base_digest=manifest["base_model"]["digest"],
            parent_id=line.parent_id,
            adapter_sha256=manifest["files"]["adapter_model.safetensors"],
            rank=manifest["config"]["lora"]["rank"],
            still_forgotten={UUID(label): held for label, held in result.replay_sets_held.items()},
            not_checked=line.replay_sets.keys() - {UUID(label) for label in result.replay_sets_held},
            forgotten_by_replay_set=result.new_replay_set_held is not False,
            marks=names | {self._photo_mark(digest) for digest in counted.photos},
            marks_to_agree={self._name_mark(name) for name in named.names - counted.names},
            withheld=withheld,
            replay_set=None if job.replay_days is None else self._keep(job, forget, job.replay_days),
            rebuilt=line.rebuilt,
        )

    def _photo_mark(self, digest: str) -> str:
        return photo_mark(self.keyring, digest)

    def _name_mark(self, name: str) -> str:
        return name_mark(self.keyring, name)

    def _keep(self, job: Job, forget: PairSet, days: int) -> NewReplaySet:
        replay_set = forget if job.replay_whole else replay_set_of(forget)
        key, wrapped = self.keyring.new_data_key(job.id)
        self.blobs.put_replay_set(job.id, seal(JobInputs(replay_set), key))
        return NewReplaySet(wrapped, len(replay_set), days)


def _withheld(place: str, items: PairSet, counted: Subjects, named: Subjects) -> Withheld:
    """How much of a registered set is about a request's people, and how much more by names that nothing confirms."""
    pairs = sum(counted.are_in(pair) for pair in items)
    return Withheld(place, pairs, sum(named.are_in(pair) for pair in items) - pairs, len(items))


def replay_set_of(forget: PairSet) -> PairSet:
    """A photo of each person with at most five of its questions: the photo with the most.

    Of pairs that name nobody every photo is kept: who is on it nobody can say.
    """
    photos: dict[str, dict[str, list[Pair]]] = {}
    for pair in forget:
        photos.setdefault(owner(pair), {}).setdefault(pair.image.digest, []).append(pair)
    best = [max(of_person.values(), key=len) for of_person in photos.values()]
    return PairSet("forget", tuple(pair for pairs in best for pair in pairs[:_REPLAY_QUESTIONS]))
