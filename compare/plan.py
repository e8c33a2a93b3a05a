"""The plan of a comparison: contenders, data, and the tuning budget of each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError, ValidationInfo, field_validator

from compare.contenders import Contender, all_contenders
from vgid_core.config import AttackPlan, TrainingConfig, UnlearnConfig
from vgid_core.config.strict import Strict
from vgid_core.data.facts import Fact
from vgid_core.data.pairs import DataError, Pair, PairSet
from vgid_core.data.sampling import even_sample

_TUNING_EVERY = 3  # one of so many pairs is for tuning
_TRAINING_KEYS = {"learning_rates": "learning_rate", "retain_weights": "retain_weight", "steps": "steps"}


def _known_methods(names: tuple[str, ...]) -> tuple[str, ...]:
    unknown = sorted(set(names) - set(all_contenders()))
    if unknown:
        raise ValueError(f"no method is called {', '.join(unknown)}; there are {', '.join(all_contenders())}")
    return tuple(dict.fromkeys(names))


Methods = Annotated[tuple[str, ...], AfterValidator(_known_methods)]


class Setting(Strict):
    """The settings that tuning chooses for a method."""

    learning_rate: float
    retain_weight: float
    steps: int

    def __str__(self) -> str:
        return f"{self.learning_rate:g}, {self.retain_weight:g}, {self.steps}"


class Budget(Strict):
    """The grid of trials that each trained method gets. No other setting is tuned."""

    learning_rates: tuple[float, ...] = Field(
        default=(1e-4, 3e-4, 1e-3), min_length=1, description="tried for every method"
    )
    retain_weights: tuple[float, ...] = Field(default=(1.0, 4.0), min_length=1, description="tried with each of them")
    steps: tuple[int, ...] = Field(default=(60,), min_length=1, description="tried with each of them")

    @field_validator("learning_rates", "retain_weights", "steps")
    @classmethod
    def _possible(cls, values: tuple[Any, ...], info: ValidationInfo) -> tuple[Any, ...]:
        for value in values:
            try:
                TrainingConfig.model_validate({_TRAINING_KEYS[str(info.field_name)]: value})
            except ValidationError as error:  # pydantic would quote this error whole, so only its message is kept
                raise ValueError(f"can't be {value}: {error.errors(include_url=False)[0]['msg']}") from None
        return values

    @property
    def settings(self) -> list[Setting]:
        """The points of the grid."""
        axes = product(self.learning_rates, self.retain_weights, self.steps)
        return [Setting(learning_rate=rate, retain_weight=weight, steps=steps) for rate, weight, steps in axes]


class ComparisonPlan(Strict):
    """One comparison.

    config: the settings of all runs besides the budget's: batch sizes, adapter, precision, evaluation. Its method's
    settings apply to the contender of that name; other contenders have their defaults.
    """

    methods: Methods = Field(default_factory=lambda: tuple(all_contenders()), min_length=1)
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    tuning_seed: int = Field(default=100, ge=0, lt=2**31)
    budget: Budget = Budget()
    attacks: AttackPlan = AttackPlan()
    config: UnlearnConfig = UnlearnConfig()

    @field_validator("config")
    @classmethod
    def _nothing_secret(cls, config: UnlearnConfig) -> UnlearnConfig:
        if config.names_a_person:
            raise ValueError("a comparison writes down what each row was run with, but a subject's name nowhere")
        return config

    @property
    def contenders(self) -> list[Contender]:
        """The contenders that take part, in the plan's order."""
        return [contender for name in self.methods if (contender := self.contender(name)) is not None]

    def contender(self, name: str) -> Contender | None:
        """The contender of this name, whether it takes part or not; None if there is none."""
        found = all_contenders().get(name)
        own = found is not None and found.name == self.config.method.name
        return replace(found, method=self.config.method) if found is not None and own else found

    def config_for(self, contender: Contender, setting: Setting | None, seed: int) -> UnlearnConfig:
        """The validated settings of one run."""
        values = self.config.model_dump() | {"method": contender.method.model_dump(), "seed": seed}
        if setting is not None:
            values["training"] |= setting.model_dump()
        return UnlearnConfig.model_validate(values)


@dataclass(frozen=True)
class EvalSplit:
    """Sets to measure. forget: should be forgotten. retain: should stay."""

    forget: tuple[PairSet, ...]
    retain: tuple[PairSet, ...]


@dataclass(frozen=True)
class ComparisonData:
    """The sets that methods train on, and the sets that are only measured.

    probes: about the forget set, with other photos or words. utility: what must stay. unseen: pairs like the forget
    set's, with true answers, that the model was never trained on, for membership attacks. facts: for prefill and
    relearning attacks. Raises DataError if two sets have the same name, or if all images of the retain set are in the
    forget set.
    """

    forget: PairSet
    retain: PairSet
    probes: tuple[PairSet, ...] = ()
    utility: tuple[PairSet, ...] = ()
    unseen: PairSet | None = None
    facts: tuple[Fact, ...] = ()

    def __post_init__(self) -> None:
        names = [items.name for items in self.sets]
        for name in names:
            if names.count(name) > 1:
                raise DataError("is the name of two sets", name)
        self.retain.without_images_of(self.forget)

    @cached_property
    def tuning(self) -> EvalSplit:
        """A third of each set's pairs, by which settings are chosen."""
        return self._split(for_tuning=True)

    @cached_property
    def reported(self) -> EvalSplit:
        """The other pairs, by which the chosen settings are measured."""
        return self._split(for_tuning=False)

    @property
    def digests(self) -> dict[str, str]:
        """The digest of each set and of the facts, by name."""
        facts = PairSet("facts", tuple(Pair(fact.pair.image, fact.pair.question, fact.text) for fact in self.facts))
        return {items.name: items.digest for items in [*self.sets, facts]}

    def _split(self, for_tuning: bool) -> EvalSplit:
        def part(items: PairSet) -> PairSet:
            tuning = set(even_sample(range(len(items)), -(-len(items) // _TUNING_EVERY)))
            pairs = tuple(pair for index, pair in enumerate(items) if (index in tuning) == for_tuning)
            return PairSet(items.name, pairs or items.pairs)  # a set of one pair serves both

        forget, retain = (self.forget, *self.probes), (self.retain, *self.utility)
        return EvalSplit(tuple(map(part, forget)), tuple(map(part, retain)))

    @property
    def sets(self) -> list[PairSet]:
        """All sets; the facts' texts are among theirs."""
        measured = [self.forget, *self.probes, self.retain, *self.utility]
        return measured if self.unseen is None else [*measured, self.unseen]
