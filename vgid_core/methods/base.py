"""What a method of unlearning is: settings that begin a run, and then updates for every step."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from vgid_core.lessons import Updates
from vgid_core.strict import Strict

if TYPE_CHECKING:
    from vgid_core.answer_path import AnswerPath
    from vgid_core.base_model import BaseModel
    from vgid_core.config import TrainingConfig
    from vgid_core.data import Pair, PairSet


@dataclass(frozen=True)
class Run:
    """What a method is given: student and teacher, by way of `path`, the weights of the two roles, both sets.

    coming: the retain pairs of the next few steps, this one's among them, which a loop of one process puts there before
    the first of these steps; else empty. What computes something for all of them clears it.
    """

    base: BaseModel
    path: AnswerPath
    training: TrainingConfig
    seed: int
    forget: PairSet
    retain: PairSet
    coming: list[Pair] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """How many there are, unless targets end them before."""
        return self.training.steps_for(len(self.forget), len(self.retain))


class Method(Strict):
    """Settings of one method. The API reads them too, so its modules import torch in `begin` alone.

    `title` is what a manifest calls it.
    """

    title: ClassVar[str]

    name: str

    @property
    def row_by_row(self) -> bool:
        """Whether its loss needs whole rows, which packed rows don't have."""
        return False

    @property
    def texts(self) -> dict[str, str]:
        """Those of its settings that a model is to read, by their names."""
        return {}

    @property
    def kept_beside_batch(self) -> int:
        """How many pairs of its own making a step keeps, beside the retain batch's."""
        return 0

    @abstractmethod
    def begin(self, run: Run) -> Updates:
        """The function that makes each step's updates; what it keeps from step to step is its own.

        A run that was interrupted calls it for the steps that are done, too: it depends on them, the settings, the seed
        and the base, but never on the student's weights, and computing a loss changes nothing in it.
        """

    def teacher_passes(self, drawn: int, forget_pairs: int) -> int:  # noqa: ARG002 - what other methods need
        """Of teachers over disturbed forget pairs, in a run whose batches hold `drawn`, of `forget_pairs` different."""
        return 0

    def reach(self, layers: int) -> int:
        """How many of the decoder's layers, counted from the first, its loss can train: those above get no adapter."""
        return layers
