"""What a method works with: the model, both sets, and the settings that all methods share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from vgid_core.config.methods import AnyMethod
from vgid_core.config.training import TrainingConfig
from vgid_core.data.pairs import EncodedImage, Pair, PairSet
from vgid_core.methods.loss_terms import MakeUpdates
from vgid_core.models.base import BaseModel
from vgid_core.scoring.scorer import Scorer

Settings = TypeVar("Settings", bound=AnyMethod)


@dataclass(frozen=True)
class MethodContext:
    """What a method is given. `scorer` computes student and teacher outputs, `training` has the weights of both roles.

    strangers: photos of people whom the model has never seen, if the run has any. unlabelled: photos of which nobody
    says who they show, as people meet the model.
    prefetch: retain pairs of the next steps, this one's among them, whose base outputs can be computed together. The
    loop of a single process fills it; the first reader clears it.
    """

    base: BaseModel
    scorer: Scorer
    training: TrainingConfig
    seed: int
    forget: PairSet
    retain: PairSet
    strangers: Sequence[EncodedImage] = ()
    unlabelled: Sequence[EncodedImage] = ()
    prefetch: list[Pair] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """How many there are, unless targets end the run before."""
        return self.training.steps_for(len(self.forget))


# Prepares a run and returns the function that makes each step's updates; what it keeps between steps is its own. A run
# that goes on after an interruption calls that function for the steps that are done, too: it depends on earlier steps,
# the settings, the seed and the base, never on the student's weights, and computing a loss changes nothing in it.
Setup = Callable[[Settings, MethodContext], MakeUpdates]
