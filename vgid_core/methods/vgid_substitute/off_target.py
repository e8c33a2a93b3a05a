"""Forget answers on unseen faces: a name that is unlikely on one face alone would point at that face."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from vgid_core.config.methods import VgidSubstitute
from vgid_core.data.examples import DistillExample, pairs_of
from vgid_core.data.pairs import EncodedImage, Pair
from vgid_core.losses.token_losses import huber
from vgid_core.losses.top_k import TopKDistribution
from vgid_core.methods.base import MethodContext
from vgid_core.methods.loss_terms import LossPart, LossTerm
from vgid_core.methods.vgid_substitute.substitutes import Substitutes
from vgid_core.methods.vgid_substitute.targets import TeacherTargets


class ForgetOffTarget:
    """Makes each step's term of forget questions and answers on unseen faces.

    The teacher sees the same unseen face and reads a substitute, so nothing changes in what the model says of that
    unseen face until the answer names somebody. What the teacher says is the target as it is. After the first token
    that the substitute replaces, the true tokens are also held to the likelihoods of `TeacherTargets`.
    """

    def __init__(
        self,
        settings: VgidSubstitute,
        context: MethodContext,
        substitutes: Substitutes,
        targets: TeacherTargets,
        unseen_faces: Sequence[EncodedImage],
    ) -> None:
        self._settings = settings
        self._context = context
        self._substitutes = substitutes
        self._targets = targets
        self._unseen_faces = unseen_faces
        self._rng = random.Random(f"{context.seed}/elsewhere")

    def next(self) -> LossTerm:
        """The next step's term."""
        forget = self._context.forget.pairs
        drawn = self._rng.choices(forget, k=self._settings.off_target_pairs)
        pairs = [Pair(self._rng.choice(self._unseen_faces), pair.question, pair.answer) for pair in drawn]
        self._targets.prepare(pairs)
        examples = [DistillExample(pair, pair.image, pair.question, self._substitute(pair)) for pair in pairs]
        alpha = self._context.training.forget_weight
        parts = [LossPart(alpha), LossPart(alpha * self._settings.likelihood_weight)]
        return LossTerm("forget", examples, parts, self._values)

    def _substitute(self, pair: Pair) -> tuple[int, ...]:
        return self._substitutes.draw(self._context.scorer.answer_ids(pair.answer), self._rng).forms[0]

    def _values(self, examples: Sequence[DistillExample]) -> list[Tensor]:
        pairs, scorer = pairs_of(examples), self._context.scorer
        said = scorer.teacher_logits(examples).float().softmax(-1)
        divergence, likelihood = scorer.kl_and_logprob(pairs, TopKDistribution.from_probabilities(said))
        wanted = self._targets.log_likelihoods(pairs).to(likelihood.device)
        named = torch.tensor([float(each) for example in examples for each in self._named_before(example)])
        return [divergence, huber(likelihood - wanted) * named.to(likelihood.device)]

    def _named_before(self, example: DistillExample) -> list[bool]:
        """For each answer token, whether the substitute replaces a token before it."""
        own, read = self._context.scorer.answer_ids(example.pair.answer), example.teacher_prefix or ()
        differs = [old != new for old, new in zip(own, read, strict=True)]
        return [any(differs[:index]) for index in range(len(own))]
