"""The inputs of a run, and the sets that it works on."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vgid_core.config import UnlearnConfig
from vgid_core.data.pairs import RESERVED_NAMES, DataError, EncodedImage, PairSet
from vgid_core.data.photos import PhotoSet
from vgid_core.data.roles import AuditSets

log = logging.getLogger(__name__)

OWN = ""  # the label of the run's own request, beside those of `UnlearnSpec.together`


@dataclass(frozen=True)
class Request:
    """One of several requests that a run forgets together: what to forget, probes about that, its artifact's folder."""

    forget: PairSet = field(repr=False)
    out: Path
    probes: Mapping[str, PairSet] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class UnlearnSpec:
    """The inputs of one run.

    model: a local folder or hub id. model_name: its name in the artifact.
    out: the artifact's folder. Files with the artifact's names (`UnlearnResult`) are replaced.
    probes: sets that are measured and never trained on, such as other photos or other wordings.
    never_seen: pairs with true answers about people whom the model has never seen, the audits' control. They should be
    other people than the strangers. bystanders: known people whom no other set holds; what they lose is collateral.
    strangers: photos of people whom the model has never seen, for the default method's teachers.
    start: the folder of the adapter with which the student begins, as a release before left it. kits: pairs of each of
    those whom it has forgotten, by any label. They are forgotten again and checked, and not retained.
    together: other requests by any label (but ""), forgotten in the same run. Each is audited by itself, and has an
    artifact of its own with the same adapter.
    unlabelled: photos of anybody, without questions, on which the base's answers are to stay.
    checkpoint: a folder for this run's checkpoint, saved every `checkpoint_seconds` (0: after each step). The same run,
    started again, resumes from it to the same adapter. It is deleted at the end unless `keep_checkpoint` is set, for
    callers that have yet to move `out` to its place.
    """

    model: str
    model_name: str
    forget: PairSet = field(repr=False)
    retain: PairSet = field(repr=False)
    out: Path
    utility: PairSet | None = field(default=None, repr=False)
    probes: Mapping[str, PairSet] = field(default_factory=dict, repr=False)
    never_seen: PairSet | None = field(default=None, repr=False)
    bystanders: PairSet | None = field(default=None, repr=False)
    strangers: PhotoSet | None = field(default=None, repr=False)
    unlabelled: PhotoSet | None = field(default=None, repr=False)
    start: Path | None = None
    kits: Mapping[str, PairSet] = field(default_factory=dict, repr=False)
    together: Mapping[str, Request] = field(default_factory=dict, repr=False)
    config: UnlearnConfig = field(default_factory=UnlearnConfig)
    checkpoint: Path | None = None
    checkpoint_seconds: float = 60.0
    keep_checkpoint: bool = False


@dataclass(frozen=True)
class EvaluationSpec:
    """The inputs of one evaluation, in which nothing is trained.

    adapter: the folder of the adapter that is measured on the model; None for the model alone. forget: what must not be
    known. twin: a model trained without the forget set, a folder or hub id: where there is one, figures are judged by
    its own. The rest is as in `UnlearnSpec`. Of the settings only `evaluation`, `verdict`, the seed and how the base is
    loaded count.
    """

    model: str
    adapter: Path | None
    forget: PairSet = field(repr=False)
    retain: PairSet = field(repr=False)
    utility: PairSet | None = field(default=None, repr=False)
    probes: Mapping[str, PairSet] = field(default_factory=dict, repr=False)
    never_seen: PairSet | None = field(default=None, repr=False)
    bystanders: PairSet | None = field(default=None, repr=False)
    twin: str | None = None
    config: UnlearnConfig = field(default_factory=UnlearnConfig)


@dataclass(frozen=True)
class RunSets:
    """The sets that a run works on, as one of its requests sees them.

    forget, retain: trained on and measured. registered, probes: measured alone. photos: sets of photos by name
    (strangers, unlabelled), without what is to be forgotten. kits: of people forgotten before, trained on and checked
    again. others: the forget sets of the run's other requests, trained on. left_out: the number of retain pairs dropped
    because their photo is to be forgotten, or because they name somebody of these: they would counteract.
    """

    forget: PairSet
    retain: PairSet
    registered: tuple[PairSet, ...]
    probes: tuple[PairSet, ...]
    photos: Mapping[str, PhotoSet]
    left_out: int
    kits: Mapping[str, PairSet] = field(default_factory=dict)
    others: Mapping[str, PairSet] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: UnlearnSpec) -> RunSets:
        """Makes and checks the sets of a run, as its own request sees them.

        Raises DataError as `to_measure` does, if no stranger is left, or if the set of a target is missing.
        """
        sets = cls.to_measure(spec)
        kept = sets.retain
        others = {label: request.forget for label, request in spec.together.items()}
        if also := _joined("also", (*others.values(), *spec.kits.values())):
            kept = kept.without_images_of(also).without_people_of(also)
            log.info("retain: left out %d pairs about others who are forgotten", len(sets.retain) - len(kept))
        left_out = sets.left_out + len(sets.retain) - len(kept)
        sets = replace(sets, retain=kept, left_out=left_out, kits=dict(spec.kits), others=others)
        photo_sets = {"strangers": spec.strangers, "unlabelled": spec.unlabelled}
        photos = {name: items.without(sets.to_forget) for name, items in photo_sets.items() if items is not None}
        sets = replace(sets, photos=photos)
        targets = spec.config.training.targets
        for name in targets.max_falls if targets is not None else ():
            if name not in {items.name for items in sets.all}:
                raise DataError(f"is needed by training.targets.{name}_fall", name)
        return sets

    @classmethod
    def to_measure(cls, spec: UnlearnSpec | EvaluationSpec) -> RunSets:
        """Makes and checks the sets of pairs. Raises DataError if no retain pair is left, or for a reserved name."""
        probes = _probes(spec.probes)
        forget = PairSet("forget", spec.forget.pairs)
        retain = PairSet("retain", spec.retain.pairs).without_images_of(forget).without_people_of(forget)
        if left_out := len(spec.retain) - len(retain):
            log.warning("retain: left out %d pairs with photos, or about people, that are to be forgotten", left_out)
        registered = {"utility": spec.utility, "never_seen": spec.never_seen, "bystanders": spec.bystanders}
        measured = [PairSet(name, items.pairs) for name, items in registered.items() if items is not None]
        return cls(forget, retain, tuple(measured), probes, {}, left_out)

    def as_seen_by(self, label: str, request: Request, own: PairSet) -> RunSets:
        """The same run, as another of its requests sees it. own: the forget set of the run's own request.

        Raises DataError for a reserved name.
        """
        others = {OWN: own} | {other: items for other, items in self.others.items() if other != label}
        forget = PairSet("forget", request.forget.pairs)
        return replace(self, forget=forget, probes=_probes(request.probes), others=others)

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
        """What the training forgets: what is requested, and what else is in the kits."""
        requested = self.requested
        known = set(requested.pairs)
        kits = [PairSet(name, tuple(each for each in kit if each not in known)) for name, kit in self.kits.items()]
        return _joined("forget", (requested, *kits))

    @property
    def audited(self) -> AuditSets:
        """The sets by their roles in the audits."""
        return AuditSets(self.forget, self.retain, **{items.name: items for items in self.registered})

    def photos_of(self, name: str) -> Sequence[EncodedImage]:
        """The photos of the set `name`; empty if the run has no such set."""
        return self.photos[name].photos if name in self.photos else ()

    @property
    def digests(self) -> dict[str, str]:
        """The digest of each set by name."""
        photo_digests = {name: items.digest for name, items in self.photos.items()}
        also = {name: _joined(name, items.values()).digest for name, items in self._also.items()}
        return {items.name: items.digest for items in self.all} | photo_digests | also

    @property
    def _also(self) -> dict[str, Mapping[str, PairSet]]:
        """What is forgotten beside the forget set, where there is anything, by its name in the manifest."""
        return {name: items for name, items in (("together", self.others), ("kits", self.kits)) if items}

    def manifest_entries(self) -> dict[str, dict[str, Any]]:
        """Digest and size of each set by name, for the manifest."""
        data: dict[str, dict[str, Any]] = {
            items.name: {"digest": items.digest, "pairs": len(items)} for items in self.all
        }
        data["retain"]["dropped_for_overlap_with_forget"] = self.left_out
        for name, items in self.photos.items():
            data[name] = {"digest": items.digest, "photos": len(items)}
        for name, sets in self._also.items():
            joined = _joined(name, sets.values())
            data[name] = {"digest": joined.digest, "pairs": len(joined), "sets": len(sets)}
        return data


def _joined(name: str, sets: Iterable[PairSet]) -> PairSet:
    return PairSet(name, tuple(pair for items in sets for pair in items))


def _probes(probes: Mapping[str, PairSet]) -> tuple[PairSet, ...]:
    for name in probes:
        if name in RESERVED_NAMES:
            raise DataError("is a reserved name", f"probes.{name}")
    return tuple(PairSet(name, items.pairs) for name, items in probes.items())
