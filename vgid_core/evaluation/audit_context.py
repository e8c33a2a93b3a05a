"""What every audit works on: one model, the sets, and how much may be asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from vgid_core.data.facts import Fact, fact_of
from vgid_core.data.pairs import Pair
from vgid_core.data.roles import AuditSets
from vgid_core.data.sampling import even_sample
from vgid_core.evaluation.estimates import Estimate, Values, mean_of
from vgid_core.evaluation.evaluate import SetAnswers
from vgid_core.evaluation.figures import Control, Figure
from vgid_core.models.base import BaseModel
from vgid_core.scoring.scorer import Scorer

UNSEEN = "unseen people"

Item = TypeVar("Item", Pair, Fact)


@dataclass(frozen=True)
class AuditSizes:
    """How much is asked.

    pairs: at most, of each audit. relearning_steps: of each fine-tuning. samples: of each answer.
    """

    pairs: int
    relearning_steps: tuple[int, ...] = (20,)
    samples: int = 20


@dataclass(frozen=True)
class AuditContext:
    """A model under audit: `base` with its adapter, if it has one.

    after, before: the answers of this model, and of the base, to each measured set by name. found_before: the base's
    figures by name and set, where they were measured.
    """

    base: BaseModel
    scorer: Scorer
    sets: AuditSets
    sizes: AuditSizes
    seed: int
    after: Mapping[str, SetAnswers]
    before: Mapping[str, SetAnswers] = field(default_factory=dict)
    found_before: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def members(self) -> list[Pair]:
        """The forgotten pairs that are asked."""
        return even_sample(self.sets.forget.pairs, self.sizes.pairs)

    def unseen(self) -> list[Pair]:
        """Pairs about unseen people; empty without such a set."""
        unseen = self.sets.unseen
        return [] if unseen is None else even_sample(unseen.pairs, self.sizes.pairs)

    def facts(self) -> list[Fact]:
        """The facts of `members`."""
        return list(map(fact_of, self.members()))

    def unseen_facts(self) -> list[Fact]:
        """The facts of `unseen`."""
        return list(map(fact_of, self.unseen()))

    def about_forgotten(self) -> Iterator[tuple[SetAnswers, SetAnswers | None]]:
        """This model's answers to each measured set about the forgotten, with the base's where it was asked."""
        for name, answers in self.after.items():
            if self.sets.is_about_forgotten(answers.pairs):
                yield answers, self.before.get(name)

    def that_fit(self, facts: Sequence[Fact]) -> list[Fact]:
        """Those whose question, which an audit has made longer, and answer still fit the model's context."""
        fits = self.base.encoder.fit_context([fact.pair for fact in facts])
        return [fact for fact, fit in zip(facts, fits, strict=True) if fit]

    def share(
        self,
        name: str,
        ask: Callable[[Sequence[Item]], Sequence[float]],
        items: Sequence[Item],
        control: Sequence[Item],
    ) -> Iterable[Figure]:
        """The mean of what `ask` finds for the items, beside the same for the control. Nothing without items."""
        if not items:
            return
        found = self.estimate(items, ask(items))
        beside = Control.measured(UNSEEN, self.estimate(control, ask(control))) if control else None
        yield self.figure(name, found, beside)

    def estimate(self, items: Sequence[Item], values: Sequence[float]) -> Estimate:
        """The mean over the items' people."""
        return mean_of(Values.about([_pair(item) for item in items], values), self.seed)

    def figure(self, name: str, found: Estimate, control: Control | None = None, of: str = "forget") -> Figure:
        """A figure of this model."""
        return Figure(name, of, found, control, self.found_before.get((name, of)))


def _pair(item: Pair | Fact) -> Pair:
    return item.pair if isinstance(item, Fact) else item
