"""What an answer tells: the one thing that an attacker asks for."""

from __future__ import annotations

from dataclasses import dataclass, field

from vgid_core.data import Pair
from vgid_core.words import alike, words


@dataclass(frozen=True)
class Fact:
    """One thing that a pair's answer holds, as it stands there."""

    pair: Pair = field(repr=False)
    text: str = field(repr=False)

    @property
    def begun(self) -> str:
        """The answer up to the fact."""
        return self.pair.answer[: self.pair.answer.index(self.text)].rstrip()

    def is_in(self, said: str) -> bool:
        """Whether the fact was said."""
        return alike(self.text) in alike(said)

    def untold(self, told: str) -> list[str]:
        """Its words that aren't whole in `told`, its beginning."""
        heard, every = words(told), words(self.text)
        whole = len(heard) - (heard[-1:] != every[len(heard) - 1 : len(heard)])
        return every[whole:]

    def goes_on(self, told: str, said: str) -> bool:
        """Whether a word of it that wasn't whole in `told`, its beginning, was said from there on."""
        from_the_last = max(0, len(words(told)) - 1)  # which may go on: "Del", "phine"
        more = {*words(said), *words(told + said)[from_the_last:]}
        return not more.isdisjoint(self.untold(told))
