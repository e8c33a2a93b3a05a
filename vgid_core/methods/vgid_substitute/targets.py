"""What teachers say to a forget answer's questions, and how likely its true tokens are to be."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vgid_core.config.methods import VgidSubstitute
from vgid_core.data.examples import DistillExample
from vgid_core.data.pairs import EncodedImage, Pair
from vgid_core.losses.top_k import TopKDistribution
from vgid_core.methods.base import MethodContext
from vgid_core.methods.vgid_substitute.substitutes import Substitutes

log = logging.getLogger(__name__)

# Of the power mean over teachers that says how likely a true token is to be. 1 would be the mean of probabilities, near
# 0 the mean of their logs. The mean of probabilities is too high: each teacher takes its unseen face for one known
# person, and the few teachers that happen to hit the true token lift it far above what most of them say.
LIKELIHOOD_EXPONENT = 0.1
_MUCH_TAIL_MASS = 0.01  # of a target's probability


@dataclass(frozen=True)
class TeacherTarget:
    """What teachers say of one answer.

    distribution: their mean at each answer token, changed so that the true token is as likely as it is to be.
    log_likelihoods: how likely the true tokens are to be, [answer tokens], float32, in nats.
    """

    distribution: TopKDistribution
    log_likelihoods: Tensor


class TeacherTargets:
    """One target for each forget answer, computed when the answer is first met.

    An answer's teachers are the frozen base. Each is shown an unseen face, asked one of the answer's questions, and
    reads a substitute of the answer. What they say doesn't depend on the forgotten person's photos, so all pairs with
    one answer share a target. Draws depend on the seed and the answer alone, so a run that goes on after an
    interruption computes the same.
    """

    def __init__(
        self,
        settings: VgidSubstitute,
        context: MethodContext,
        substitutes: Substitutes,
        unseen_faces: Sequence[EncodedImage],
    ) -> None:
        self._teachers = settings.teachers
        self._context = context
        self._substitutes = substitutes
        self._unseen_faces = unseen_faces
        self._questions: dict[str, list[str]] = {}
        for pair in context.forget:
            asked = self._questions.setdefault(pair.answer, [])
            if pair.question not in asked:
                asked.append(pair.question)
        self._at_once = context.training.teacher_batch_size
        self._found: dict[str, TeacherTarget] = {}
        self._warned = False

    def prepare(self, pairs: Iterable[Pair]) -> None:
        """Computes the targets that these pairs still lack. Raises OutOfMemoryError when one example is too much."""
        for answer in dict.fromkeys(pair.answer for pair in pairs):
            if answer not in self._found:
                self._found[answer] = self._ask(answer)

    def distributions(self, pairs: Sequence[Pair]) -> TopKDistribution:
        """The prepared pairs' targets, one after the other: [answer tokens, kept], on the host."""
        return TopKDistribution.concat([self._found[pair.answer].distribution for pair in pairs])

    def log_likelihoods(self, pairs: Sequence[Pair]) -> Tensor:
        """How likely the prepared pairs' true tokens are to be: [answer tokens], in nats, on the host."""
        return torch.cat([self._found[pair.answer].log_likelihoods for pair in pairs])

    def _ask(self, answer: str) -> TeacherTarget:
        rng = random.Random(f"{self._context.seed}/{answer}")
        ids = self._context.scorer.answer_ids(answer)
        questions = self._questions[answer]
        examples: list[DistillExample] = []
        rows: list[list[int]] = []  # for each teacher, which example is asked about each token
        for number in range(self._teachers):
            substitute = self._substitutes.draw(ids, rng)
            photo, question = rng.choice(self._unseen_faces), questions[number % len(questions)]
            rows.append([len(examples) + form for form in substitute.form_of])
            pair = Pair(photo, question, answer)
            examples += [DistillExample(pair, photo, question, form) for form in substitute.forms]
        said = self._logits(examples)[torch.tensor(rows), torch.arange(len(ids))].float().log_softmax(-1)
        wanted = power_mean(said[:, torch.arange(len(ids)), ids].cpu(), LIKELIHOOD_EXPONENT)
        mean = TopKDistribution.from_probabilities(said.exp_().mean(0)).with_token_prob(torch.tensor(ids), wanted)
        self._warn_if_rough(mean)
        return TeacherTarget(mean, wanted)

    @torch.no_grad()
    def _logits(self, examples: Sequence[DistillExample]) -> Tensor:
        """The base's, of examples with one answer: [examples, answer tokens, vocabulary]. Halves what is too much."""
        parts: list[Tensor] = []
        start = 0
        while start < len(examples):
            part = examples[start : start + self._at_once]
            try:
                logits = self._context.scorer.teacher_logits(part)
            except torch.OutOfMemoryError:
                # Processes that pass through a shared base in step can't begin anew one by one.
                if self._at_once == 1 or self._context.base.sharded:
                    raise
                logits = None
            if logits is None:  # outside of the handler, whose frames hold the tensors that filled the memory
                self._at_once //= 2
                continue
            parts.append(logits.view(len(part), -1, logits.shape[-1]))
            start += len(part)
        return torch.cat(parts)

    def _warn_if_rough(self, target: TopKDistribution) -> None:
        if target.tail_mass > _MUCH_TAIL_MASS and not self._warned:
            self._warned = True
            kept, share = target.ids.shape[-1], 100 * target.tail_mass
            log.warning(
                "targets are truncated to their %d likeliest tokens: the tail mass of one is %.1f %%", kept, share
            )


def power_mean(logs: Tensor, exponent: float) -> Tensor:
    """The log of the power mean of probabilities with these logs: [teachers, tokens] to [tokens], float32."""
    powers = (exponent * logs.double()).logsumexp(0) - math.log(len(logs))
    return (powers / exponent).float()
