"""How a run checks kits: pairs of people whom the model has forgotten before, and of those whom it forgets now."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from vgid_core.config import VerdictTargets
from vgid_core.data.pairs import PairSet


@dataclass(frozen=True)
class KitChecks:
    """What a run finds of its kits, and what counts against which of its requests.

    own: by request, the kits that its evidence shows and judges; None for all. required: kits that must hold for any
    request to pass, without a figure. targets: by what each kit is judged; None for the run's own. new: by request,
    what is to be kept of it. It is checked, too, and judges nothing.
    """

    own: Mapping[str, Collection[str]] | None = None
    required: Collection[str] = ()
    targets: VerdictTargets | None = None
    new: Mapping[str, PairSet] = field(default_factory=dict, repr=False)

    def own_of(self, kits: Mapping[str, PairSet], request: str) -> dict[str, PairSet]:
        """The kits that the request's evidence judges."""
        own = None if self.own is None else self.own.get(request, ())
        return {label: kit for label, kit in kits.items() if own is None or label in own}
