"""The inputs of a run, and the sets that it works on."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vgid_core.config import UnlearnConfig
from vgid_core.data.pairs import RESERVED_NAMES, DataError, EncodedImage, PairSet
from vgid_core.data.photos import PhotoSet
from vgid_core.data.replay_checks import ReplayChecks
from vgid_core.data.roles import ABOUT_KNOWN, AuditSets
from vgid_core.data.subjects import Subjects, about_nobody

log = logging.getLogger(__name__)

OWN = ""  # the label of the run's own request, beside those of `UnlearnSpec.together`
REPLAY_SETS = "replay_sets"  # the label of all replay sets together
Names = Mapping[str, Collection[str]]


@dataclass(frozen=True)
class Request:
    """One of several requests that a run forgets together: what to forget, probes about that, its artifact's folder."""

    forget: PairSet = field(repr=False)
    out: Path
    probes: Mapping[str, PairSet] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class UnlearnSpec:
    """The inputs of one run.

    model: a local folder or hub id. model_name: its name in the artifact. out: the artifact's folder. Files with the
    artifact's names (`UnlearnResult`) are replaced. registered_retain: what must stay, too, where the retain set came
    with the request. probes: sets that are measured and never trained on, such as other photos or other wordings.
    unseen: pairs with true answers about people whom the model has never seen, the audits' control. They should be
    other people than the unseen faces. neighbours: known people whom no other set holds; what they lose is collateral.
    unseen_faces: photos of people whom the model has never seen, for the default method's teachers. start: the folder
    of the adapter with which the student begins, as a release before left it. replay_sets: pairs of each of those whom
    it has forgotten, by any label. They are forgotten again and checked, and not retained. replay_checks: what of them
    counts against which request. together: other requests by any label (but ""), forgotten in the same run. Each is
    audited by itself, and has an artifact of its own with the same adapter. own_retain: whether the retain set came
    with the request. Then nothing in it shows whose photo is whose. forgotten: people whom the model has forgotten
    before, or is to forget for somebody else. Sets about others don't teach them, and what the model says of them
    counts as no loss. private: what is written about a request then says nothing of the replay sets and of the other
    requests, which are other people's. unlabelled: photos of anybody, without questions, on which the base's answers
    are to stay. checkpoint: a folder for this run's checkpoint, saved every `checkpoint_seconds` (0: after each step).
    The same run, started again, resumes from it to the same adapter. It is deleted at the end unless `keep_checkpoint`
    is set, for callers that have yet to move `out` to its place.
    """

    model: str
    model_name: str
    forget: PairSet = field(repr=False)
    retain: PairSet = field(repr=False)
    out: Path
    registered_retain: PairSet | None = field(default=None, repr=False)
    utility: PairSet | None = field(default=None, repr=False)
    probes: Mapping[str, PairSet] = field(default_factory=dict, repr=False)
    unseen: PairSet | None = field(default=None, repr=False)
    neighbours: PairSet | None = field(default=None, repr=False)
    unseen_faces: PhotoSet | None = field(default=None, repr=False)
    unlabelled: PhotoSet | None = field(default=None, repr=False)
    start: Path | None = None
    replay_sets: Mapping[str, PairSet] = field(default_factory=dict, repr=False)
    replay_checks: ReplayChecks = field(default_factory=ReplayChecks, repr=False)
    together: Mapping[str, Request] = field(default_factory=dict, repr=False)
    forgotten: Subjects = field(default_factory=Subjects, repr=False)
    private: bool = False
    own_retain: bool = False
    config: UnlearnConfig = field(default_factory=UnlearnConfig)
    checkpoint: Path | None = None
    checkpoint_seconds: float = 60.0
    keep_checkpoint: bool = False


@dataclass(frozen=True)
class EvaluationSpec:
    """The inputs of one evaluation, in which nothing is trained.

    adapter: the folder of the adapter that is measured on the model; None for the model alone. forget: what must not be
    known. reference_model: a model trained without the forget set, a folder or hub id: where there is one, figures are
    judged by its own. The rest is as in `UnlearnSpec`. Of the settings only `evaluation`, `verdict`, the seed and how
    the base is loaded count.
    """

    model: str
    adapter: Path | None
    forget: PairSet = field(repr=False)
    retain: PairSet = field(repr=False)
    registered_retain: PairSet | None = field(default=None, repr=False)
    utility: PairSet | None = field(default=None, repr=False)
    probes: Mapping[str, PairSet] = field(default_factory=dict, repr=False)
    unseen: PairSet | None = field(default=None, repr=False)
    neighbours: PairSet | None = field(default=None, repr=False)
    reference_model: str | None = None
    forgotten: Subjects = field(default_factory=Subjects, repr=False)
    own_retain: bool = False
    config: UnlearnConfig = field(default_factory=UnlearnConfig)


@dataclass(frozen=True)
class RunSets:
    """The sets that a run works on, as one of its requests sees them.

    Sets about others are as they were given, and measured whole before: what is left of them would tell who else is
    forgotten. `withheld` says what of them is neither trained on nor counted afterwards.

    forget: trained on and measured. retain: measured; what is trained on is `to_retain`. registered, probes: measured
    alone. photos: sets of photos by name (unseen faces, unlabelled). replay_sets: of people forgotten before, trained
    on and checked again. others: the forget sets of the run's other requests, trained on. own: whom this request is
    about. withheld: everybody who is forgotten, these among them. own_retain: whether the retain set came with the
    request.
    """

    forget: PairSet
    retain: PairSet
    registered: tuple[PairSet, ...]
    probes: tuple[PairSet, ...]
    own: Subjects
    withheld: Subjects
    photos: Mapping[str, PhotoSet] = field(default_factory=dict)
    replay_sets: Mapping[str, PairSet] = field(default_factory=dict)
    others: Mapping[str, PairSet] = field(default_factory=dict)
    own_retain: bool = False

    @classmethod
    def of(cls, spec: UnlearnSpec, names: Names | None = None) -> RunSets:
        """Makes and checks the sets of a run, as its own request sees them.

        names: by request, and of the replay sets, the names, normalized, by which their pairs may withhold others; None
        for all of them. Raises DataError as `to_measure` does, or if a set has only photos that are to be forgotten.
        """
        sets = cls.to_measure(spec, names)
        others = {label: request.forget for label, request in spec.together.items()}
        also = Subjects.of(
            (pair for replay_set in spec.replay_sets.values() for pair in replay_set), _of(names, REPLAY_SETS)
        )
        for label, pairs in others.items():
            also |= Subjects.of(pairs, _of(names, label))
        given = {"unseen_faces": spec.unseen_faces, "unlabelled": spec.unlabelled}
        photos = {name: items for name, items in given.items() if items is not None}
        for items in photos.values():
            items.without(sets.own.photos)
        return replace(
            sets, withheld=sets.withheld | also, photos=photos, replay_sets=dict(spec.replay_sets), others=others
        )

    @classmethod
    def to_measure(cls, spec: UnlearnSpec | EvaluationSpec, names: Names | None = None) -> RunSets:
        """Makes and checks the sets of pairs. Raises DataError if no retain pair is left, or for a reserved name."""
        forget = PairSet("forget", spec.forget.pairs)
        own = Subjects.of(forget, _of(names, OWN))
        names_of_roles = ("registered_retain", "utility", "unseen", "neighbours")
        registered = {name: getattr(spec, name) for name in names_of_roles}
        measured = [PairSet(name, items.pairs) for name, items in registered.items() if items is not None]
        retain = PairSet("retain", spec.retain.pairs)
        withheld, probes = own | spec.forgotten, _probes(spec.probes)
        sets = cls(forget, retain, tuple(measured), probes, own, withheld, own_retain=spec.own_retain)
        if (left_out := sets.left_out) and names is None:
            log.warning("retain: left out %d pairs with photos, or about people, that are to be forgotten", left_out)
        return sets

    def as_seen_by(self, label: str, request: Request, own: PairSet, names: Names | None = None) -> RunSets:
        """The same run, as another of its requests sees it. own: the forget set of the run's own request.

        names: as for `of`. Raises DataError as `to_measure` does.
        """
        others = {OWN: own} | {other: items for other, items in self.others.items() if other != label}
        forget = PairSet("forget", request.forget.pairs)
        subjects = Subjects.of(forget, _of(names, label))
        subjects.taken_from(self.retain)
        return replace(self, forget=forget, probes=_probes(request.probes), others=others, own=subjects)

    @property
    def retained(self) -> PairSet:
        """The retain set without whom the request itself is about. Raises DataError if nothing is left."""
        return self.own.taken_from(self.retain)

    @property
    def left_out(self) -> int:
        """How many retain pairs are about whom the request itself is about. Raises DataError if all are."""
        return len(self.retain) - len(self.retained)

    @property
    def to_retain(self) -> PairSet:
        """What the training retains: what isn't withheld, of both retain sets if there are two. Where nothing is left,
        pairs about nobody.
        """
        left = self._without(self.withheld, self._given_to_retain)
        return about_nobody(self._given_to_retain) if left is None else left

    @property
    def kept(self) -> PairSet:
        """Both retain sets, if there are two, without whom the request itself is about."""
        return self.own.taken_from(self._given_to_retain)

    @property
    def _given_to_retain(self) -> PairSet:
        registered = [each for each in self.registered if each.name == "registered_retain"]
        return _joined("retain", [self.retain, *registered])

    @property
    def counted(self) -> list[PairSet]:
        """All sets of pairs, those about others without what is withheld; whole, where nothing else is left."""
        people = self.uncounted
        return [
            self._without(people[items.name], items) or items if items.name in people else items for items in self.all
        ]

    @property
    def uncounted(self) -> dict[str, Subjects]:
        """By set about others, of whom nothing counts as lost there. Of a request's own retain set, its own people.

        Whom somebody else has had forgotten counts there: what isn't counted could be told from what is.
        """
        counted = dict.fromkeys(self.registered_names, self.withheld)
        return counted if not self.own_retain else counted | {"retain": self.own}

    @property
    def registered_names(self) -> frozenset[str]:
        """The sets about others that aren't the request's own: what they say is the operator's word."""
        return ABOUT_KNOWN - ({"retain"} if self.own_retain else set())

    @staticmethod
    def _without(people: Subjects, items: PairSet) -> PairSet | None:
        left = tuple(pair for pair in items if not people.are_in(pair))
        return PairSet(items.name, left) if left else None

    @property
    def all(self) -> list[PairSet]:
        """All sets of pairs, forget and retain first."""
        return [self.forget, self.retain, *self.registered, *self.probes]

    @property
    def requested(self) -> PairSet:
        """What the run's requests ask to forget, all together."""
        return _joined("forget", (self.forget, *self.others.values()))

    @property
    def to_forget(self) -> PairSet:
        """What the training forgets: what is requested, and what else is in the replay sets."""
        requested = self.requested
        known = set(requested.pairs)
        replay_sets = [
            PairSet(name, tuple(each for each in replay_set if each not in known))
            for name, replay_set in self.replay_sets.items()
        ]
        return _joined("forget", (requested, *replay_sets))

    @property
    def audited(self) -> AuditSets:
        """The sets by their roles in the audits."""
        return AuditSets(self.forget, self.retained, **{items.name: items for items in self.registered})

    def photos_of(self, name: str) -> Sequence[EncodedImage]:
        """The photos of the set `name` that aren't withheld; empty if the run has no such set."""
        given = self.photos[name].photos if name in self.photos else ()
        return [photo for photo in given if photo.digest not in self.withheld.photos]

    @property
    def digests(self) -> dict[str, str]:
        """The digest of each set by name, and of what is trained on of those about others."""
        given = {items.name: items.digest for items in self.all}
        photos = {name: items.digest for name, items in self.photos.items()}
        also = {name: _joined(name, items.values()).digest for name, items in self._also.items()}
        trained = {name: PhotoSet(name, tuple(self.photos_of(name))).digest for name in self.photos}
        trained["retain"] = self.to_retain.digest
        withheld = {
            f"{name}, trained on": digest for name, digest in trained.items() if (given | photos)[name] != digest
        }
        return given | photos | also | withheld

    @property
    def _also(self) -> dict[str, Mapping[str, PairSet]]:
        """What is forgotten beside the forget set, where there is anything, by its name in the manifest."""
        return {name: items for name, items in (("together", self.others), ("replay_sets", self.replay_sets)) if items}

    def manifest_entries(self, *, private: bool = False) -> dict[str, dict[str, Any]]:
        """Digest and size of each set by name, for the manifest. private: without replay sets and other requests."""
        data: dict[str, dict[str, Any]] = {
            items.name: {"digest": items.digest, "pairs": len(items)} for items in self.all
        }
        data["retain"]["dropped_for_overlap_with_forget"] = self.left_out
        for name, items in self.photos.items():
            data[name] = {"digest": items.digest, "photos": len(items)}
        for name, sets in () if private else self._also.items():
            joined = _joined(name, sets.values())
            data[name] = {"digest": joined.digest, "pairs": len(joined), "sets": len(sets)}
        return data


def _of(names: Names | None, label: str) -> Collection[str] | None:
    return None if names is None else names.get(label, ())


def _joined(name: str, sets: Iterable[PairSet]) -> PairSet:
    return PairSet(name, tuple(pair for items in sets for pair in items))


def _probes(probes: Mapping[str, PairSet]) -> tuple[PairSet, ...]:
    for name in probes:
        if name in RESERVED_NAMES:
            raise DataError("is a reserved name", f"probes.{name}")
    return tuple(PairSet(name, items.pairs) for name, items in probes.items())
