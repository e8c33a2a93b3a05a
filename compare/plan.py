"""What a comparison is told: who takes part, on what, and with which budget for each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError, ValidationInfo, field_validator

from compare.contenders import Contender, known
from vgid_core.config import AttackPlan, TrainingConfig, UnlearnConfig
from vgid_core.config.strict import Strict
from vgid_core.data.facts import Fact
from vgid_core.data.pairs import DataError, Pair, PairSet
from vgid_core.data.sampling import even_sample

_TUNING_EVERY = 3
_OF_TRAINING = {"learning_rates": "learning_rate", "retain_weights": "retain_weight", "steps": "steps"}


def _known_methods(names: tuple[str, ...]) -> tuple[str, ...]:
    unknown = sorted(set(names) - set(known()))
    if unknown:
        raise ValueError(f"no method is called {', '.join(unknown)}; there are {', '.join(known())}")
    return tuple(dict.fromkeys(names))


Methods = Annotated[tuple[str, ...], AfterValidator(_known_methods)]


class Setting(Strict):
    """What tuning chooses for a method."""

    learning_rate: float
    retain_weight: float
    steps: int

    def __str__(self) -> str:
        return f"{self.learning_rate:g}, {self.retain_weight:g}, {self.steps}"


class Budget(Strict):
    """The trials that every trained method gets, all of them: a grid. Whatever else it knows isn't tuned."""

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
                TrainingConfig.model_validate({_OF_TRAINING[str(info.field_name)]: value})
            except ValidationError as error:  # a message of its own: pydantic would quote the whole of this one
                raise ValueError(f"can't be {value}: {error.errors(include_url=False)[0]['msg']}") from None
        return values

    @property
    def settings(self) -> list[Setting]:
        """The grid's points."""
        axes = product(self.learning_rates, self.retain_weights, self.steps)
        return [Setting(learning_rate=rate, retain_weight=weight, steps=steps) for rate, weight, steps in axes]


class ComparisonPlan(Strict):
    """One comparison. `config` gives every run what the budget doesn't: batch sizes, adapter, precision, evaluation.

    Settings of its method are those of the contender by that name; the others have their defaults.
    """

    methods: Methods = Field(default_factory=lambda: tuple(known()), min_length=1)
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
        """In the order asked for."""
        return [contender for name in self.methods if (contender := self.contender(name)) is not None]

    def contender(self, name: str) -> Contender | None:
        """By its name, whether it takes part or not; None where there is none."""
        found = known().get(name)
        own = found is not None and found.name == self.config.method.name
        return replace(found, method=self.config.method) if found is not None and own else found

    def config_for(self, contender: Contender, setting: Setting | None, seed: int) -> UnlearnConfig:
        """One run's settings, validated."""
        values = self.config.model_dump() | {"method": contender.method.model_dump(), "seed": seed}
        if setting is not None:
            values["training"] |= setting.model_dump()
        return UnlearnConfig.model_validate(values)


@dataclass(frozen=True)
class Part:
    """Sets to measure: `lost` should be forgotten, `kept` should stay."""

    lost: tuple[PairSet, ...]
    kept: tuple[PairSet, ...]


@dataclass(frozen=True)
class ComparisonData:
    """What methods train on, and what is measured besides.

    Raises DataError when two sets have one name, and when every image of the retain set is to be forgotten.

    probes: about what is forgotten, in other photos or words. utility: what must stay. never_seen: pairs like the
    forget set's, with true answers, that the model was never trained on: membership attacks need them.
    """

    forget: PairSet
    retain: PairSet
    probes: tuple[PairSet, ...] = ()
    utility: tuple[PairSet, ...] = ()
    never_seen: PairSet | None = None
    facts: tuple[Fact, ...] = ()

    def __post_init__(self) -> None:
        names = [items.name for items in self.sets]
        for name in names:
            if names.count(name) > 1:
                raise DataError("is the name of two sets", name)
        self.retain.without_images_of(self.forget)

    @cached_property
    def tuning(self) -> Part:
        """One of every three pairs of each set: settings are chosen by these."""
        return self._part(of_tuning=True)

    @cached_property
    def reported(self) -> Part:
        """The other pairs, by which what was chosen is measured."""
        return self._part(of_tuning=False)

    @property
    def digests(self) -> dict[str, str]:
        """Names every set, and the facts, without showing them."""
        facts = PairSet("facts", tuple(Pair(fact.pair.image, fact.pair.question, fact.text) for fact in self.facts))
        return {items.name: items.digest for items in [*self.sets, facts]}

    def _part(self, of_tuning: bool) -> Part:
        def chosen(items: PairSet) -> PairSet:
            tuning = set(even_sample(range(len(items)), -(-len(items) // _TUNING_EVERY)))
            pairs = tuple(pair for index, pair in enumerate(items) if (index in tuning) == of_tuning)
            return PairSet(items.name, pairs or items.pairs)  # a set of one pair serves both

        lost, kept = (self.forget, *self.probes), (self.retain, *self.utility)
        return Part(tuple(map(chosen, lost)), tuple(map(chosen, kept)))

    @property
    def sets(self) -> list[PairSet]:
        """Every set that there is, whose texts those of the facts are, too."""
        measured = [self.forget, *self.probes, self.retain, *self.utility]
        return measured if self.never_seen is None else [*measured, self.never_seen]
