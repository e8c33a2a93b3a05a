"""The sets that audits work on, by their roles, and whom a set is about."""

from __future__ import annotations

from dataclasses import dataclass, field

from vgid_core.data.leaks import names_in
from vgid_core.data.pairs import PairSet
from vgid_core.data.text_normalization import normalized

_MOST = 0.5
# Sets about others by their role, whatever they have in common with what is forgotten: those about people, and other
# things, that the model knows, and all.
ABOUT_KNOWN = frozenset({"retain", "registered_retain", "utility", "neighbours"})
_OTHERS = ABOUT_KNOWN | {"unseen"}


@dataclass(frozen=True)
class AuditSets:
    """The sets by their roles.

    forget: what was to be forgotten. retain: what an attacker, too, can train on. unseen: pairs about people whom
    the model has never seen, the control. registered_retain, utility, neighbours: registered sets about others, whom
    they may name.
    """

    forget: PairSet = field(repr=False)
    retain: PairSet = field(repr=False)
    unseen: PairSet | None = field(default=None, repr=False)
    registered_retain: PairSet | None = field(default=None, repr=False)
    utility: PairSet | None = field(default=None, repr=False)
    neighbours: PairSet | None = field(default=None, repr=False)

    def is_about_forgotten(self, items: PairSet) -> bool:
        """Whether a measured set is about the forgotten: by its role, else by the people that its pairs name, else by
        its answers. Whoever names the same people otherwise gives them the same answers, which name them.
        """
        if items.name in _OTHERS:
            return False
        forgotten = {normalized(pair.person) for pair in self.forget if pair.person is not None}
        named = [normalized(pair.person) for pair in items if pair.person is not None]
        if sum(name in forgotten for name in named) > _MOST * len(items):
            return True
        asked = [pair for pair in items if not named or names_in(pair.answer)]
        answers = {normalized(pair.answer) for pair in self.forget}
        return sum(normalized(pair.answer) in answers for pair in asked) > _MOST * len(items)
