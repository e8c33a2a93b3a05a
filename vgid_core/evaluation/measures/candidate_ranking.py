"""Candidate ranking: can who was forgotten be read off a list of names, at its top or at its bottom?

An attacker with a list of candidates ranks them by how likely the model finds each on a photo of the forgotten person.
Some names are likelier than others whoever is shown. So each score is taken less its mean over unseen faces, for
which nobody needs to know anything. A model that never met the person puts the true name anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from statistics import fmean

import torch
from torch import Tensor

from vgid_core.data.facts import Fact
from vgid_core.data.pairs import EncodedImage, Pair
from vgid_core.losses.token_losses import token_log_probability
from vgid_core.models.base import BaseModel
from vgid_core.scoring.scorer import Scorer

_ANSWERS_AT_ONCE = 32
_NEAR_THE_END = 5  # places
FEWEST_CANDIDATES = 10  # of which five are half
_UNSEEN_PHOTOS = 6  # photos; each costs a pass for every candidate

# Scores of candidate answers to a question about a photo: [candidates], the likelier the higher.
Score = Callable[[EncodedImage, str, Sequence[str]], Tensor]


@dataclass(frozen=True)
class Sought:
    """A photo of somebody forgotten, a question, and which of the candidate answers is true."""

    photo: EncodedImage
    question: str
    truth: int


@dataclass(frozen=True)
class Ranking:
    """Where the true answers stand among the candidates: shares in [0, 1] of the questions asked.

    below: the mean share of candidates that rank below the truth; a tie counts half.
    """

    first: float
    first_five: float
    last: float
    last_five: float
    below: float


@dataclass(frozen=True)
class Place:
    """How many candidates score above and below the true answer; a tie counts half in each."""

    above: float
    below: float

    @property
    def as_ranking(self) -> Ranking:
        """The shares of this one question."""
        return Ranking(
            first=float(self.above < 1),
            first_five=float(self.above < _NEAR_THE_END),
            last=float(self.below < 1),
            last_five=float(self.below < _NEAR_THE_END),
            below=self.below / (self.above + self.below),
        )


def candidate_ranking(
    score: Score, sought: Sequence[Sought], candidates: Sequence[str], unseen_photos: Sequence[EncodedImage]
) -> Ranking:
    """As `candidate_places`, the mean over the photos."""
    return _mean([place.as_ranking for place in candidate_places(score, sought, candidates, unseen_photos)])


def candidate_places(
    score: Score, sought: Sequence[Sought], candidates: Sequence[str], unseen_photos: Sequence[EncodedImage]
) -> list[Place]:
    """Ranks the candidates for each photo that is sought, calibrated by the unseen faces.

    `candidates` are answers to the questions, one a person. Of these, equally scored ones share their places.
    """
    usual = {
        question: torch.stack([score(photo, question, candidates) for photo in unseen_photos]).mean(0)
        for question in dict.fromkeys(each.question for each in sought)
    }
    places = []
    for each in sought:
        scores = score(each.photo, each.question, candidates) - usual[each.question]
        truth = scores[each.truth]
        tied = (float((scores == truth).sum()) - 1) / 2
        places.append(Place(float((scores > truth).sum()) + tied, float((scores < truth).sum()) + tied))
    return places


def rank_among_answers(score: Score, facts: Sequence[Fact], unseen: Sequence[Pair]) -> Ranking | None:
    """As `places_among_answers`, the mean over the facts; None if no question has ten different answers."""
    found = places_among_answers(score, [fact.pair for fact in facts], unseen)
    return _mean([place.as_ranking for _, place in found]) if found else None


def places_among_answers(score: Score, about: Sequence[Pair], unseen: Sequence[Pair]) -> list[tuple[Pair, Place]]:
    """Where each pair's answer stands among all answers that its question has, those about unseen people among
    them. Pairs of a question with fewer than ten different answers are left out.

    The first six photos of unseen people calibrate the scores.
    """
    unseen_photos = list(dict.fromkeys(pair.image for pair in unseen))[:_UNSEEN_PHOTOS]
    found: list[tuple[Pair, Place]] = []
    for question in dict.fromkeys(pair.question for pair in about):
        asked = [pair for pair in about if pair.question == question]
        others = [pair for pair in unseen if pair.question == question]
        candidates = list(dict.fromkeys(pair.answer for pair in [*asked, *others]))
        if others and len(candidates) >= FEWEST_CANDIDATES:
            sought = [Sought(pair.image, question, candidates.index(pair.answer)) for pair in asked]
            found += zip(asked, candidate_places(score, sought, candidates, unseen_photos), strict=True)
    return found


def places_among_names(
    score: Score, about: Sequence[Pair], names: Sequence[str], unseen_photos: Sequence[EncodedImage]
) -> list[tuple[Pair, Place]]:
    """Where each pair's person stands among all names, each put into the person's place in the pair's answer.

    Pairs whose answer doesn't hold their person's name are left out. The unseen faces calibrate the scores.
    """
    found = []
    for pair in about:
        if pair.person is not None and pair.person in pair.answer:
            candidates = [pair.answer.replace(pair.person, name) for name in dict.fromkeys([pair.person, *names])]
            [place] = candidate_places(score, [Sought(pair.image, pair.question, 0)], candidates, unseen_photos)
            found.append((pair, place))
    return found


def _mean(rankings: Sequence[Ranking]) -> Ranking:
    return Ranking(**{place.name: fmean(getattr(each, place.name) for each in rankings) for place in fields(Ranking)})


def by_first_token(scorer: Scorer) -> Score:
    """Scores by the log-probability of each candidate's first token that isn't the same in all, by one pass."""

    @torch.no_grad()
    def score(photo: EncodedImage, question: str, candidates: Sequence[str]) -> Tensor:
        place, tokens = _first_tokens(scorer, candidates)
        likelihoods = scorer.student_logits([Pair(photo, question, candidates[0])])[place].float().log_softmax(-1)
        return likelihoods[tokens].cpu()

    return score


def by_whole_answer(scorer: Scorer) -> Score:
    """Scores by the log-probability of each whole candidate, a pass for each."""

    @torch.no_grad()
    def score(photo: EncodedImage, question: str, candidates: Sequence[str]) -> Tensor:
        pairs = [Pair(photo, question, candidate) for candidate in candidates]
        found = []
        for start in range(0, len(pairs), _ANSWERS_AT_ONCE):
            chunk = pairs[start : start + _ANSWERS_AT_ONCE]
            rows = [scorer.answer_ids(pair.answer) for pair in chunk]
            logits = scorer.student_logits(chunk)
            tokens = torch.tensor([token for row in rows for token in row], device=logits.device)
            likelihoods = token_log_probability(logits, tokens)
            found += [part.sum() for part in torch.split(likelihoods, [len(row) for row in rows])]
        return torch.stack(found).cpu()

    return score


def by_logit_lens(base: BaseModel, scorer: Scorer, layer: int) -> Score:
    """Scores by first tokens as the decoder's layer of this number (0-based) would have them: whoever has the weights
    reads a middle layer's states through the model's last norm and output matrix.
    """
    norm, head = base.model.get_decoder().norm, base.model.get_output_embeddings()

    @torch.no_grad()
    def score(photo: EncodedImage, question: str, candidates: Sequence[str]) -> Tensor:
        place, tokens = _first_tokens(scorer, candidates)
        states = scorer.student_states([Pair(photo, question, candidates[0])], layer)[place : place + 1]
        likelihoods: Tensor = head(norm(states))[0].float().log_softmax(-1)
        return likelihoods[tokens].cpu()

    return score


def _first_tokens(scorer: Scorer, candidates: Sequence[str]) -> tuple[int, list[int]]:
    """The place of the first token that isn't the same in all candidates, and each candidate's token there."""
    rows = [scorer.answer_ids(candidate) for candidate in candidates]
    shortest = min(map(len, rows))
    place = next((place for place in range(shortest) if len({row[place] for row in rows}) > 1), shortest - 1)
    return place, [row[place] for row in rows]
