"""How a run checks replay sets: pairs of people whom the model forgot before, and of those whom it forgets now."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from vgid_core.config import VerdictTargets
from vgid_core.data.pairs import PairSet


@dataclass(frozen=True)
class ReplayChecks:
    """What a run finds of its replay sets, and what counts against which of its requests.

    own: by request, the replay sets that its evidence shows and judges; None for all. required: replay sets that must
    hold for any request to pass, without a figure. targets: by what each replay set is judged; None for the run's own.
    new: by request, what is to be kept of it. It is checked, too, and judges nothing.
    """

    own: Mapping[str, Collection[str]] | None = None
    required: Collection[str] = ()
    targets: VerdictTargets | None = None
    new: Mapping[str, PairSet] = field(default_factory=dict, repr=False)

    def own_of(self, replay_sets: Mapping[str, PairSet], request: str) -> dict[str, PairSet]:
        """The replay sets that the request's evidence judges."""
        own = None if self.own is None else self.own.get(request, ())
        return {label: replay_set for label, replay_set in replay_sets.items() if own is None or label in own}
