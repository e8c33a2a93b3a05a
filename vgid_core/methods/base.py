"""The context of a method: model, sets, and the settings that all methods share."""

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
    """What a method works with.

    scorer: computes student and teacher outputs. training: has the weights of both roles. unseen_faces: photos of
    people whom the model has never seen. unlabelled: photos of anybody, without labels. prefetch: retain pairs of the
    next steps, including this one, whose base outputs can be computed together. Filled by the loop of a single process,
    cleared by the first reader.
    """

    base: BaseModel
    scorer: Scorer
    training: TrainingConfig
    seed: int
    forget: PairSet
    retain: PairSet
    unseen_faces: Sequence[EncodedImage] = ()
    unlabelled: Sequence[EncodedImage] = ()
    prefetch: list[Pair] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """The number of steps."""
        return self.training.steps_for(len(self.forget))


# Prepares a run and returns the function that makes each step's updates. That function can keep state between steps. A
# resumed run calls it for the finished steps, too, without training: so it may depend on earlier calls, the settings,
# the seed and the base, never on the student's weights, and computing a loss must not change its state.
Setup = Callable[[Settings, MethodContext], MakeUpdates]
