"""The requests of one run: each checked and audited by itself, with what they share done once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager

from vgid_core.config import UnlearnConfig
from vgid_core.data.overlap import require_apart, require_few
from vgid_core.data.pairs import DataError
from vgid_core.data.roles import ABOUT_KNOWN
from vgid_core.errors import UnlearnError
from vgid_core.evaluation.evidence import Auditor, Evidence, Measured
from vgid_core.evaluation.known import require_known
from vgid_core.evaluation.labels import read_labels, require_own_names
from vgid_core.evaluation.rechecks import KITS
from vgid_core.models.base import BaseModel
from vgid_core.models.near_copies import near_copies
from vgid_core.scoring.scorer import Scorer
from vgid_core.spec import OWN, RunSets, UnlearnSpec

Views = Mapping[str, RunSets]
OnShare = Callable[[float], None]


def views_of(spec: UnlearnSpec, names: Collection[str] | None = None) -> dict[str, RunSets]:
    """The run's sets as each request sees them, its own first. Raises DataError for an unusable set.

    names: the names, normalized, by which pairs to forget may withhold others; None for all of them.
    """
    with about(OWN):
        own = RunSets.of(spec, names)
    views = {OWN: own}
    for label, request in spec.together.items():
        with about(label):
            views[label] = own.as_seen_by(label, request, spec.forget, names)
    return views


def confirmed_names(base: BaseModel, views: Views) -> dict[str, frozenset[str]]:
    """By request, which of its names are its people's, by what the base says. Raises LabelContradicted.

    Those of the kits are asked about, too, and stand under `KITS`.
    """
    own = views[OWN]
    others = [items for items in own.all if items.name in ABOUT_KNOWN]
    registered = [pair for items in others for pair in items]
    found = {}
    for label, sets in views.items():
        with about(label):
            labels = read_labels(base, sets.forget.pairs, registered)
            require_own_names(labels, others)
            found[label] = labels.confirmed
    kits = [pair for kit in own.kits.values() for pair in kit]
    return found | {KITS: read_labels(base, kits, registered).confirmed}


def require_usable(base: BaseModel, views: Views, config: UnlearnConfig) -> None:
    """Raises DataError, or RetainHoldsForgotten, for the first request that can't be run."""
    audited = config.evaluation.audits != "none"
    for label, sets in views.items():
        with about(label):
            if audited:
                require_apart(sets.forget, sets.retained)
            base.encoder.require_usable(*sets.all, settings=config.method.texts)
            if audited:
                photos = [pair.image for pair in sets.forget]
                copies = near_copies(base, photos, [pair.image for pair in sets.retained])
                require_few(copies, len(set(photos)), "photos")


def measure_before(
    base: BaseModel, scorer: Scorer, views: Views, config: UnlearnConfig, tell: OnShare
) -> dict[str, Measured]:
    """What is found of the base, by request. Raises what `require_known` raises for the first that it doesn't know."""
    found: dict[str, Measured] = {}
    for label, sets in views.items():
        auditor = Auditor(sets.audited, sets.all, config)
        found[label] = auditor.before(base, scorer, _part(tell, len(found), len(views)), found.get(OWN))
        with about(label):
            require_known(found[label].figures)
    return found


def measure_after(
    base: BaseModel,
    scorer: Scorer,
    views: Views,
    config: UnlearnConfig,
    before: Mapping[str, Measured],
    tell: OnShare,
) -> tuple[dict[str, Measured], dict[str, Evidence | None]]:
    """What is found of the student, by request, and the evidence of each. The kits are checked with the run's own."""
    found: dict[str, Measured] = {}
    evidence = {}
    for label, sets in views.items():
        auditor = Auditor(sets.audited, sets.all, config, sets.kits if label == OWN else {}, sets.withheld)
        tell_part = _part(tell, len(found), len(views))
        found[label] = auditor.after(base, scorer, before[label], tell_part, found.get(OWN))
        evidence[label] = auditor.evidence(found[label])
    return found, evidence


def _part(tell: OnShare, done: int, parts: int) -> OnShare:
    return lambda share: tell((done + share) / parts)


@contextmanager
def about(label: str) -> Iterator[None]:
    """An error within the context is about this request."""
    try:
        yield
    except (UnlearnError, DataError) as error:
        error.request = label
        raise
