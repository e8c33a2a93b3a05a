"""How likely a model that never met somebody would find what is true of them, by the model that has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vgid_core.data import Pair
from vgid_core.lessons import Lesson
from vgid_core.teaching import AliasTeacher

if TYPE_CHECKING:
    from vgid_core.methods.base import Run
    from vgid_core.methods.vgid_alias import VgidAlias

_Key = tuple[str, str, str]


class StrangerLevels:
    """For each pair the log-probability of every answer token that teachers find after an alias, in nats.

    Found once a run, a batch at a time, by draws of a seed of their own: they don't depend on the training. A strength
    that changes during the run is the last step's.
    """

    def __init__(self, method: VgidAlias, run: Run) -> None:
        self._method = method
        self._run = run
        self._teacher = AliasTeacher(method, run, run.seed + 1, steps=1)
        self._at_once = run.training.micro_batch_size
        self._levels: dict[_Key, Tensor] = {}

    def find(self, pairs: Sequence[Pair]) -> None:
        """Makes sure that these pairs have theirs, in smaller parts where memory doesn't suffice.

        Raises OutOfMemoryError when one pair is too much.
        """
        unknown = list({_key(pair): pair for pair in pairs if _key(pair) not in self._levels}.values())
        # Drawn for all of them before any is computed, so that micro-batches change memory alone.
        drawn = list(self._teacher.each(unknown, self._method.level_draws, progress=1.0)) if unknown else []
        start = 0
        while start < len(unknown):
            part = slice(start, start + self._at_once)
            try:
                found = self._measured([lessons[part] for lessons in drawn])
            except torch.OutOfMemoryError:
                if self._at_once == 1:
                    raise
                found = None
            if found is None:  # outside of the handler, whose frames hold the tensors that filled the memory
                self._at_once //= 2
                continue
            lengths = [len(self._run.path.answer_ids(pair.answer)) for pair in unknown[part]]
            self._levels |= zip(map(_key, unknown[part]), torch.split(found, lengths), strict=True)
            start += len(unknown[part])

    def of(self, pairs: Sequence[Pair]) -> Tensor:
        """The levels of pairs that were found, one after the other: [answer tokens], on the host."""
        return torch.cat([self._levels[_key(pair)] for pair in pairs])

    @torch.no_grad()
    def _measured(self, drawn: Sequence[Sequence[Lesson]]) -> Tensor:
        logs = torch.stack([self._run.path.teacher_log_probability(lessons).cpu() for lessons in drawn])
        of_the_mean = logs.logsumexp(0) - math.log(len(logs))
        tilt = self._method.level_tilt
        return (1 - tilt) * of_the_mean + tilt * logs.mean(0)


def _key(pair: Pair) -> _Key:
    return pair.image.digest, pair.question, pair.answer
