"""The requests of one run: each checked and audited by itself, with what they share done once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from vgid_core.config import UnlearnConfig
from vgid_core.data.overlap import require_apart, require_few
from vgid_core.data.pairs import DataError
from vgid_core.data.replay_checks import ReplayChecks
from vgid_core.data.text_normalization import normalized
from vgid_core.errors import RequestsRefused, UnlearnError
from vgid_core.evaluation.evidence import Auditor, Evidence, Measured
from vgid_core.evaluation.known import require_known
from vgid_core.evaluation.labels import read_labels, require_own_names
from vgid_core.evaluation.rechecks import ReplaySets
from vgid_core.models.base import BaseModel
from vgid_core.models.near_copies import near_copies
from vgid_core.scoring.scorer import Scorer
from vgid_core.spec import OWN, REPLAY_SETS, Names, RunSets, UnlearnSpec

Views = Mapping[str, RunSets]
OnShare = Callable[[float], None]


@dataclass(frozen=True)
class Refusals:
    """Which of a run's requests can't be run, and why, so that all are told at once.

    alone: whether the run has one request, whose error is raised as it comes.
    """

    alone: bool
    found: dict[str, UnlearnError | DataError] = field(default_factory=dict)

    @contextmanager
    def about(self, label: str) -> Iterator[None]:
        """An error within the context refuses this request."""
        try:
            yield
        except (UnlearnError, DataError) as error:
            error.request = label
            if self.alone:
                raise
            _drop_frames(error)
            self.found[label] = error

    def left(self, views: Views) -> dict[str, RunSets]:
        """The requests that aren't refused. Raises RequestsRefused if none is left."""
        left = {label: sets for label, sets in views.items() if label not in self.found}
        if not left:
            self.require_none()
        return left

    def require_none(self) -> None:
        """Raises RequestsRefused if any request is refused."""
        if self.found:
            raise RequestsRefused(self.found)


def _drop_frames(error: BaseException) -> None:
    """Takes from the error, and from what caused it, the frames that would keep a model in memory."""
    each: BaseException | None = error
    while each is not None:
        each.__traceback__ = None
        each = each.__cause__ or each.__context__


def views_of(spec: UnlearnSpec, refusals: Refusals, names: Names | None = None) -> dict[str, RunSets]:
    """The run's sets as each request sees them, its own first.

    names: see `RunSets.of`. Raises RequestsRefused for those that can't be run by themselves, before any model is
    loaded. Raises DataError if they can't be run as one.
    """
    if refusals.alone:
        with refusals.about(OWN):
            return {OWN: RunSets.of(spec, names)}
    if names is None:  # with fewer names less is left out, so nothing else is refused
        for label in (OWN, *spec.together):
            with refusals.about(label):
                RunSets.of(_by_itself(spec, label))
        refusals.require_none()
    own = RunSets.of(spec, names)
    others = {label: own.as_seen_by(label, request, spec.forget, names) for label, request in spec.together.items()}
    return {OWN: own} | others


def _by_itself(spec: UnlearnSpec, label: str) -> UnlearnSpec:
    """The run of one of the requests alone."""
    if label == OWN:
        return replace(spec, together={})
    request = spec.together[label]
    return replace(spec, forget=request.forget, probes=request.probes, out=request.out, together={})


def confirmed_names(base: BaseModel, views: Views, refusals: Refusals) -> dict[str, frozenset[str]]:
    """By request that isn't refused, which of its names are its people's, by what the base says.

    Refuses requests whose names it contradicts (LabelContradicted). Those of the replay sets are asked about, too, and
    stand under `REPLAY_SETS`.
    """
    own = views[OWN]
    others = [items for items in own.all if items.name in own.registered_names]
    registered = [pair for items in others for pair in items]
    found = {}
    for label, sets in refusals.left(views).items():
        with refusals.about(label):
            labels = read_labels(base, sets.forget.pairs, registered)
            require_own_names(labels, others)
            found[label] = labels.confirmed
    # Any other name takes nobody out of a set, and replay sets may hold thousands.
    listed = {normalized(pair.person) for pair in registered if pair.person is not None}
    named = (pair for replay_set in own.replay_sets.values() for pair in replay_set if pair.person is not None)
    replay_sets = [pair for pair in named if normalized(pair.person or "") in listed]
    return found | {REPLAY_SETS: read_labels(base, replay_sets, registered).confirmed}


def require_usable(base: BaseModel, views: Views, config: UnlearnConfig, refusals: Refusals) -> None:
    """Refuses requests with an unusable pair, and those that the retain set holds, too (RetainHoldsForgotten)."""
    audited = config.evaluation.audits != "none"
    for label, sets in refusals.left(views).items():
        with refusals.about(label):
            if audited:
                require_apart(sets.forget, sets.kept)
            base.encoder.require_usable(*sets.all, settings=config.method.texts)
            if audited:
                photos = [pair.image for pair in sets.forget]
                copies = near_copies(base, photos, [pair.image for pair in sets.kept])
                require_few(copies, len(set(photos)), "photos")


def measure_before(
    base: BaseModel, scorer: Scorer, views: Views, config: UnlearnConfig, tell: OnShare, refusals: Refusals
) -> dict[str, Measured]:
    """What is found of the base, by request that isn't refused. Refuses those that `require_known` does."""
    found: dict[str, Measured] = {}
    left = refusals.left(views)
    for label, sets in left.items():
        auditor = Auditor(sets.audited, sets.all, config)
        shared = next(iter(found.values()), None)
        found[label] = auditor.before(base, scorer, _part(tell, len(found), len(left)), shared)
        with refusals.about(label):
            require_known(found[label].figures)
    return found


def measure_after(
    base: BaseModel,
    scorer: Scorer,
    views: Views,
    config: UnlearnConfig,
    before: Mapping[str, Measured],
    tell: OnShare,
    checks: ReplayChecks,
) -> tuple[dict[str, Measured], dict[str, Evidence | None]]:
    """What is found of the student, by request, and the evidence of each. Each replay set is checked once."""
    found: dict[str, Measured] = {}
    evidence = {}
    for label, sets in views.items():
        auditor = Auditor(sets.audited, sets.all, config, ReplaySets(sets.replay_sets, checks, label), sets.uncounted)
        tell_part = _part(tell, len(found), len(views))
        found[label] = auditor.after(base, scorer, before[label], tell_part, found.get(OWN))
        evidence[label] = auditor.evidence(found[label])
    return found, evidence


def _part(tell: OnShare, done: int, parts: int) -> OnShare:
    return lambda share: tell((done + share) / parts)
