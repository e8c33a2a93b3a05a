"""What the base would say of people whom it never met, in the place of those whom it is to forget."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vgid_core.answer_path import spoken
from vgid_core.data import Pair
from vgid_core.lessons import Lesson
from vgid_core.likeliest import Likeliest
from vgid_core.losses import token_log_probability
from vgid_core.teaching import AliasTeacher

if TYPE_CHECKING:
    from vgid_core.methods.base import Run
    from vgid_core.methods.vgid_alias import VgidAlias

log = logging.getLogger(__name__)

_MUCH_LEFT_OUT = 0.01  # of a target's probability
_MET_TOGETHER = 32  # pairs, at least, whose teachers are shown the same pictures: what these cost is shared

_Key = tuple[str, str, str]


@dataclass(frozen=True)
class Stranger:
    """One pair's target at each of its answer tokens: what teachers say on average, and how likely the true token is.

    levels: log-probabilities in nats, [answer tokens].
    """

    target: Likeliest
    levels: Tensor


class Strangers:
    """For each pair what a method's teachers say after aliases of its answer; asked once a run, a batch at a time.

    By generators of their own: they don't depend on the training.
    """

    def __init__(self, method: VgidAlias, run: Run) -> None:
        self._method = method
        self._run = run
        self._teacher = AliasTeacher(method, run, run.seed)
        self._at_once = run.training.teacher_batch_size
        self._known: dict[_Key, Stranger] = {}
        self._warned = False

    def meet(self, pairs: Sequence[Pair]) -> None:
        """Makes sure that these pairs have theirs, in smaller parts where memory doesn't suffice.

        Raises OutOfMemoryError when one pair is too much.
        """
        needed = {_key(pair): pair for pair in pairs if _key(pair) not in self._known}
        unknown = [*needed.values(), *self._soon_met(needed)] if needed else []
        # Drawn for all of them before any is computed, so that micro-batches change memory alone.
        drawn = self._teacher.draws(unknown, self._method.draws) if unknown else []
        start = 0
        while start < len(unknown):
            part = slice(start, start + self._at_once)
            try:
                found = self._asked([lessons[part] for lessons in drawn])
            except torch.OutOfMemoryError:
                # Processes that pass through a shared base in step can't begin anew one by one.
                if self._at_once == 1 or self._run.base.sharded:
                    raise
                found = None
            if found is None:  # outside of the handler, whose frames hold the tensors that filled the memory
                self._at_once //= 2
                continue
            self._known |= zip(map(_key, unknown[part]), found, strict=True)
            start += len(unknown[part])

    def _soon_met(self, beside: Collection[_Key]) -> list[Pair]:
        """Others of the forget set, with which there are enough to be met together."""
        training, forget = self._run.training, self._run.forget
        if training.steps * training.forget_batch_size < len(forget):
            return []  # not all of them are sure to be needed
        others = {_key(pair): pair for pair in forget if _key(pair) not in self._known and _key(pair) not in beside}
        return list(others.values())[: max(0, _MET_TOGETHER - len(beside))]

    def targets(self, pairs: Sequence[Pair]) -> Likeliest:
        """Of pairs that were met, one after the other: [answer tokens, kept], on the host."""
        return Likeliest.joined([self._known[_key(pair)].target for pair in pairs])

    def levels(self, pairs: Sequence[Pair]) -> Tensor:
        """Of pairs that were met, one after the other: [answer tokens], on the host."""
        return torch.cat([self._known[_key(pair)].levels for pair in pairs])

    @torch.no_grad()
    def _asked(self, drawn: Sequence[Sequence[Lesson]]) -> list[Stranger]:
        pairs = [lesson.pair for lesson in drawn[0]]
        ids = spoken(self._run.path, pairs).to(self._run.base.device)
        mean, logs = None, []
        for lessons in drawn:
            logits = self._run.path.teacher_logits(lessons).float()
            logs.append(token_log_probability(logits, ids))
            said = logits.softmax(-1)
            mean = said if mean is None else mean.add_(said)
        assert mean is not None
        target = Likeliest.of(mean / len(drawn))
        self._tell_if_rough(target)
        lengths = [len(self._run.path.answer_ids(pair.answer)) for pair in pairs]
        heard = torch.cat([self._alias_heard(lessons) for lessons in zip(*drawn, strict=True)])
        levels = torch.split(_levels(torch.stack(logs), heard.to(ids.device)).cpu(), lengths)
        return [Stranger(*both) for both in zip(target.split(lengths), levels, strict=True)]

    def _alias_heard(self, lessons: Sequence[Lesson]) -> Tensor:
        """Of one pair's lessons, whether an alias stands before each answer token in any: bool, [answer tokens]."""
        true = torch.tensor(self._run.path.answer_ids(lessons[0].pair.answer))
        replaced = (torch.tensor([lesson.heard for lesson in lessons]) != true).any(0)
        return replaced.cumsum(0) - replaced.long() > 0

    def _tell_if_rough(self, target: Likeliest) -> None:
        if target.left_out > _MUCH_LEFT_OUT and not self._warned:
            self._warned = True
            kept = target.ids.shape[-1]
            share = 100 * target.left_out
            log.warning("targets are kept as their %d likeliest tokens: %.1f %% of one is left out", kept, share)


def _levels(logs: Tensor, alias_heard: Tensor) -> Tensor:
    """[answer tokens], from each teacher's log-probabilities of the true tokens, [teachers, answer tokens].

    After aliases the log of the mean probability: one alias is about one other person, and only all of them together
    are about anybody. Before, teachers differ in what they see alone, and a stranger has one face, not many: there it
    is the mean of the logs, which is lower.
    """
    return torch.where(alias_heard, logs.logsumexp(0) - math.log(len(logs)), logs.mean(0))


def _key(pair: Pair) -> _Key:
    return pair.image.digest, pair.question, pair.answer
