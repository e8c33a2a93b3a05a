"""What one run is given, and the sets that it comes to."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vgid_core.config import UnlearnConfig
from vgid_core.data.pairs import DataError, EncodedImage, PairSet
from vgid_core.data.photos import PhotoSet

log = logging.getLogger(__name__)

_RESERVED = ("forget", "retain", "utility", "strangers", "unlabelled")


@dataclass(frozen=True)
class UnlearnSpec:
    """One run. `model` is a local folder or hub id, `model_name` what the artifact calls it.

    `out` is a folder of this run's own: files there whose names are the artifact's (`UnlearnResult`) are replaced.
    Probes are sets that are measured before and after but never trained on (other photos, other wordings).
    `strangers` are photos of people whom the model has never seen; the default method's teachers see them.
    `unlabelled` are photos of anybody, without questions: what the base says of them is to stay.
    `checkpoint` is a folder of this run's own: every `checkpoint_seconds` (0: after every step) the training is written
    down there; the same run, started again with it, goes on from there to the very same adapter. At the end it is
    emptied, unless `keep_checkpoint` leaves that to the caller, who has yet to bring `out` to where it belongs.
    """

    model: str
    model_name: str
    forget: PairSet = field(repr=False)
    retain: PairSet = field(repr=False)
    out: Path
    utility: PairSet | None = field(default=None, repr=False)
    probes: Mapping[str, PairSet] = field(default_factory=dict, repr=False)
    strangers: PhotoSet | None = field(default=None, repr=False)
    unlabelled: PhotoSet | None = field(default=None, repr=False)
    config: UnlearnConfig = field(default_factory=UnlearnConfig)
    checkpoint: Path | None = None
    checkpoint_seconds: float = 60.0
    keep_checkpoint: bool = False


@dataclass(frozen=True)
class RunSets:
    """The sets that a run works on: `forget` and `retain` are trained on, `measured` only measured.

    photos: sets of photos without questions, by name: strangers, unlabelled.
    left_out: retain pairs whose photos are to be forgotten. Kept, they would undo the forgetting.
    """

    forget: PairSet
    retain: PairSet
    measured: tuple[PairSet, ...]
    photos: Mapping[str, PhotoSet]
    left_out: int

    @classmethod
    def of(cls, spec: UnlearnSpec) -> RunSets:
        """Raises DataError when no retain pair or stranger is left, a probe has another set's name, or a set lacks that
        a target is about."""
        for name in spec.probes:
            if name in _RESERVED:
                raise DataError("is a reserved name", f"probes.{name}")
        forget = PairSet("forget", spec.forget.pairs)
        retain = PairSet("retain", spec.retain.pairs).without_images_of(forget)
        if left_out := len(spec.retain) - len(retain):
            log.warning("retain: left out %d pairs with photos that are to be forgotten", left_out)
        utility = [] if spec.utility is None else [PairSet("utility", spec.utility.pairs)]
        probes = [PairSet(name, items.pairs) for name, items in spec.probes.items()]
        given = {"strangers": spec.strangers, "unlabelled": spec.unlabelled}
        photos = {name: items.without(forget) for name, items in given.items() if items is not None}
        sets = cls(forget, retain, (*utility, *probes), photos, left_out)
        targets = spec.config.training.targets
        for name in targets.max_falls if targets is not None else ():
            if name not in {items.name for items in sets.all}:
                raise DataError(f"is needed by training.targets.{name}_fall", name)
        return sets

    @property
    def all(self) -> list[PairSet]:
        """Every set of pairs, the forget and the retain set first."""
        return [self.forget, self.retain, *self.measured]

    def photos_of(self, name: str) -> Sequence[EncodedImage]:
        """The photos of this name; none where none are registered."""
        return self.photos[name].photos if name in self.photos else ()

    @property
    def digests(self) -> dict[str, str]:
        """What names each set without showing it."""
        of_photos = {name: items.digest for name, items in self.photos.items()}
        return {items.name: items.digest for items in self.all} | of_photos

    def described(self) -> dict[str, dict[str, Any]]:
        """Digest and size of each set, for the manifest."""
        data: dict[str, dict[str, Any]] = {
            items.name: {"digest": items.digest, "pairs": len(items)} for items in self.all
        }
        data["retain"]["dropped_for_overlap_with_forget"] = self.left_out
        for name, items in self.photos.items():
            data[name] = {"digest": items.digest, "photos": len(items)}
        return data
