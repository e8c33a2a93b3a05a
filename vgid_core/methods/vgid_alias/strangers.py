"""What the base would say of people whom it never met, in the place of those whom it is to forget."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vgid_core.data.examples import DistillExample
from vgid_core.data.pairs import Pair
from vgid_core.losses.token_losses import token_log_probability
from vgid_core.losses.top_k import TopKDistribution
from vgid_core.methods.vgid_alias.levels import Levels
from vgid_core.methods.vgid_alias.next_best import NextBest, Untold
from vgid_core.methods.vgid_alias.teaching import AliasTeacher, Hearing
from vgid_core.scoring.scorer import spoken

if TYPE_CHECKING:
    from vgid_core.config.methods import VgidAlias
    from vgid_core.methods.base import MethodContext

log = logging.getLogger(__name__)

_FEWEST_ALIASES = 20  # different telling tokens, below which a name is hardly ever replaced by an unknown one
_MUCH_LEFT_OUT = 0.01  # of a target's probability
_MET_TOGETHER = 32  # pairs, at least, whose teachers are shown the same pictures: what these cost is shared

_Key = tuple[str, str, str]


@dataclass(frozen=True)
class Stranger:
    """What one pair's teachers say.

    first: of the answer's first token, on average, [1, kept]. levels: by them alone, of each answer token, in nats.
    """

    first: TopKDistribution
    levels: list[float]


class Strangers:
    """For each pair what a method's teachers say after aliases of its answer; asked once a run, a batch at a time.

    Inside of what nobody else has they are asked after its true beginning instead, for their next best guess.

    Whether to answer at all is decided at the first token, by each pair's own teachers. How a begun answer goes on is
    what those of the first pair met with that very answer say, for all of them: a model that never met the person takes
    them for somebody, and for the same one on each photo. Means over many teachers are unsure, which tells.

    By generators of their own: they don't depend on the training.
    """

    def __init__(self, method: VgidAlias, run: MethodContext) -> None:
        self._method = method
        self._run = run
        self._teacher = AliasTeacher(method, run, run.seed)
        if self._teacher.choice < _FEWEST_ALIASES:
            log.warning("the retain set holds too little to make aliases of: begun answers may bring facts back")
        self._at_once = run.training.teacher_batch_size
        self._known: dict[_Key, Stranger] = {}
        self._begun: dict[str, TopKDistribution] = {}  # by answer: how it goes on after its first token, [others, kept]
        self._warned = False
        self._levels = Levels(method.level_exponent, method.level_spread, method.first_exponent)
        self._next_best = self._guesses() if method.guesses else None

    def _guesses(self) -> NextBest:
        ids = self._run.scorer.answer_ids
        forgotten, kept = (
            {token for answer in {pair.answer for pair in pairs} for token in ids(answer)}
            for pairs in (self._run.forget, self._run.retain)
        )
        untold = Untold(self._teacher.telling, forgotten, kept)
        return NextBest(self._run.base.encoder, self._method.next_best_temperature, untold)

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
                found = self._asked([hearings[part] for hearings in drawn])
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
        forget = self._run.forget
        if self._run.steps * self._run.training.forget_batch_size < len(forget):
            return []  # not all of them are sure to be needed
        others = {_key(pair): pair for pair in forget if _key(pair) not in self._known and _key(pair) not in beside}
        return list(others.values())[: max(0, _MET_TOGETHER - len(beside))]

    def targets(self, pairs: Sequence[Pair]) -> TopKDistribution:
        """Of pairs that were met, one after the other: [answer tokens, kept], on the host.

        Where teachers don't guess, the true tokens are as likely in them as their levels say: else one part of the
        loss pushes a student from where the other pulls it, and where it comes to rest tells who was forgotten. Guesses
        leave the truth out, and with them it changes nothing (docs/method.md).
        """
        parts = ((self._known[_key(pair)].first, self._begun[pair.answer]) for pair in pairs)
        said = TopKDistribution.joined([part for both in parts for part in both])
        if self._next_best is not None:
            return said
        agreeing = said.with_token_prob(spoken(self._run.scorer, pairs), self.levels(pairs))
        self._tell_if_rough(agreeing)
        return agreeing

    def levels(self, pairs: Sequence[Pair]) -> Tensor:
        """Of pairs that were met, one after the other: [answer tokens], on the host."""
        answers = [self._run.scorer.answer_ids(pair.answer) for pair in pairs]
        return torch.cat(
            [self._levels.of(ids, self._known[_key(p)].levels) for ids, p in zip(answers, pairs, strict=True)]
        )

    @torch.no_grad()
    def _asked(self, drawn: Sequence[Sequence[Hearing]]) -> list[Stranger]:
        pairs = [hearing.lesson.pair for hearing in drawn[0]]
        ids = spoken(self._run.scorer, pairs).to(self._run.base.device)
        lengths = [len(self._run.scorer.answer_ids(pair.answer)) for pair in pairs]
        targeted = self._targeted(pairs, lengths)
        starts = accumulate(lengths, initial=0)
        places = [start + place for start, count in zip(starts, targeted, strict=False) for place in range(count)]
        inside = [self._inside(pair, count) for pair, count in zip(pairs, targeted, strict=True)]
        targets = accumulate(targeted, initial=0)
        begun = [start + place for start, at in zip(targets, inside, strict=False) for place in at]
        rows, mean, logs = torch.tensor(places, device=ids.device), None, []
        for hearings in drawn:
            guessed = self._guessed(hearings, inside) if begun else None
            logits = self._said(hearings).float()
            logs.append(token_log_probability(logits, ids))
            said = logits[rows].softmax(-1)
            if guessed is not None:
                said[torch.tensor(begun, device=said.device)] = guessed
            mean = said if mean is None else mean.add_(said)
        assert mean is not None
        target = TopKDistribution.of(mean / len(drawn))
        self._tell_if_rough(target)
        told = torch.split(torch.stack(logs).cpu(), lengths, dim=1)
        levels = [self._heard_of(*both) for both in zip(zip(*drawn, strict=True), told, strict=True)]
        found = []
        for pair, own, by_them in zip(pairs, target.split(targeted), levels, strict=True):
            first, others = own.split([1, len(own.ids) - 1])
            self._begun.setdefault(pair.answer, others)
            found.append(Stranger(first, by_them))
        return found

    def _targeted(self, pairs: Sequence[Pair], lengths: Sequence[int]) -> list[int]:
        """Of how many tokens each pair's teachers give the target: all, or the first where the answer isn't new."""
        answers = [pair.answer for pair in pairs]
        new = [answer not in self._begun and answer not in answers[:i] for i, answer in enumerate(answers)]
        return [length if is_new else 1 for is_new, length in zip(new, lengths, strict=True)]

    def _inside(self, pair: Pair, count: int) -> list[int]:
        """Where among an answer's first `count` tokens teachers hear its true beginning: in what only this one has."""
        if self._next_best is None:
            return []
        alone = self._teacher.only_theirs(self._run.scorer.answer_ids(pair.answer))
        return [place for place in range(count) if alone[place]]

    def _guessed(self, hearings: Sequence[Hearing], inside: Sequence[Sequence[int]]) -> Tensor:
        """One teacher's next best guesses after the answers' true beginnings: [places inside, vocabulary]."""
        assert self._next_best is not None
        asked = [(hearing.unaliased(self._run.scorer), at) for hearing, at in zip(hearings, inside, strict=True) if at]
        logits = self._in_parts([lesson for lesson, _ in asked], [at for _, at in asked])
        answers = [(self._run.scorer.answer_ids(lesson.pair.answer), at) for lesson, at in asked]
        return self._next_best.of(logits, [(answer, place) for answer, at in answers for place in at])

    def _heard_of(self, hearings: Sequence[Hearing], logs: Tensor) -> list[float]:
        """Has `levels` take note of what one pair's teachers said; returns the levels by them alone."""
        answer = self._run.scorer.answer_ids(hearings[0].lesson.pair.answer)
        replaced = [any(each) for each in zip(*(h.alias.replaced_before(answer) for h in hearings), strict=True)]
        inside = self._inside(hearings[0].lesson.pair, len(answer))
        guessed = [place in inside for place in range(len(answer))]
        return self._levels.hear(answer, logs, self._teacher.among_others(answer), replaced, guessed)

    def _said(self, hearings: Sequence[Hearing]) -> Tensor:
        """One teacher's logits, each where it is asked: [answer tokens, vocabulary]."""
        lessons = [lesson for hearing in hearings for lesson in hearing.lessons]
        places = [asked for hearing in hearings for asked in hearing.places]
        said = self._in_parts(lessons, places)
        starts = accumulate((len(hearing.alias.asked) for hearing in hearings), initial=0)
        by_form = [start + p for start, h in zip(starts, hearings, strict=False) for asked in h.places for p in asked]
        return said[torch.tensor(by_form).argsort().to(said.device)]

    def _in_parts(self, lessons: Sequence[DistillExample], places: Sequence[Sequence[int]]) -> Tensor:
        """So many lessons at once as there may be pairs: of most of a form's tokens nothing is asked."""
        parts = [slice(start, start + self._at_once) for start in range(0, len(lessons), self._at_once)]
        return torch.cat([self._asked_at(lessons[part], places[part]) for part in parts])

    def _asked_at(self, lessons: Sequence[DistillExample], places: Sequence[Sequence[int]]) -> Tensor:
        """The teacher's logits at these places of each lesson's answer."""
        starts = accumulate((len(self._run.scorer.answer_ids(lesson.pair.answer)) for lesson in lessons), initial=0)
        rows = [start + place for start, asked in zip(starts, places, strict=False) for place in asked]
        logits = self._run.scorer.teacher_logits(lessons)
        return logits[torch.tensor(rows, dtype=torch.long, device=logits.device)]

    def _tell_if_rough(self, target: TopKDistribution) -> None:
        if target.tail_mass > _MUCH_LEFT_OUT and not self._warned:
            self._warned = True
            kept = target.ids.shape[-1]
            share = 100 * target.tail_mass
            log.warning("targets are kept as their %d likeliest tokens: %.1f %% of one is left out", kept, share)


def _key(pair: Pair) -> _Key:
    return pair.image.digest, pair.question, pair.answer
