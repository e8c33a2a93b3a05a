"""Candidate ranking beside a loop written out, and on scores whose places are plain."""

from collections.abc import Sequence

import pytest
import torch

from tests.vgid_core.support.reference import plain_logits
from tests.vgid_core.support.students import MakeScorer, both_scorers
from tests.vgid_core.support.tiny import picture
from vgid_core.data.facts import Fact
from vgid_core.data.pairs import EncodedImage, Pair
from vgid_core.evaluation.measures.candidate_ranking import (
    Ranking,
    Sought,
    by_first_token,
    by_logit_lens,
    by_whole_answer,
    candidate_ranking,
    rank_among_answers,
)
from vgid_core.models.base import BaseModel
from vgid_core.scoring.packed.scorer import PackedScorer

CANDIDATES = ["Ada Quill.", "Bo Marsh.", "The teal one.", "Fernmoor.", "Nobody at all.", "A lighthouse keeper."]
UNSEEN = [picture(number) for number in (70, 71)]
QUESTION = "Who is this?"


def log_probabilities(base: BaseModel, photo: EncodedImage, answer: str) -> list[float]:
    ids = base.encoder.answer_ids(answer)
    logits = plain_logits(base, photo.decode(), QUESTION, ids).log_softmax(-1)
    return [float(logits[place, token]) for place, token in enumerate(ids)]


@both_scorers
def test_scores_are_the_models_own_likelihoods(base: BaseModel, scorer: MakeScorer) -> None:
    made, photo = scorer(base), picture(3)
    first, whole = (by(made)(photo, QUESTION, CANDIDATES) for by in (by_first_token, by_whole_answer))
    for index, answer in enumerate(CANDIDATES):
        expected = log_probabilities(base, photo, answer)
        assert torch.isclose(first[index], torch.tensor(expected[0]), atol=1e-4)
        assert torch.isclose(whole[index], torch.tensor(sum(expected)), atol=1e-3)


def test_the_lens_at_the_last_layer_is_the_model(base: BaseModel) -> None:
    scorer, photo = PackedScorer(base), picture(3)
    last = len(base.model.get_decoder().layers) - 1
    seen = by_logit_lens(base, scorer, last)(photo, QUESTION, CANDIDATES)
    assert torch.allclose(seen, by_first_token(scorer)(photo, QUESTION, CANDIDATES), atol=1e-4)
    assert not torch.allclose(by_logit_lens(base, scorer, 0)(photo, QUESTION, CANDIDATES), seen, atol=1e-2)


def test_places_are_those_of_scores_less_what_unseen_get() -> None:
    usual = torch.tensor([5.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    scores = {
        picture(1): torch.tensor([5.0, 3.0, 2.0, 1.0, 0.5, -1.0]),  # candidate 0 isn't likely: it always is
        picture(2): torch.tensor([6.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
    }
    scores |= dict.fromkeys(UNSEEN, usual)

    def ranked(photo: EncodedImage, truth: int) -> Ranking:
        sought = [Sought(photo, QUESTION, truth)]
        return candidate_ranking(lambda image, *_: scores[image], sought, CANDIDATES, UNSEEN)

    assert ranked(picture(1), 1) == Ranking(first=1, first_five=1, last=0, last_five=0, below=1)
    assert ranked(picture(1), 0) == Ranking(first=0, first_five=1, last=0, last_five=1, below=0.2)
    assert ranked(picture(1), 5) == Ranking(first=0, first_five=0, last=1, last_five=1, below=0)
    assert ranked(picture(2), 0).first == 1
    assert ranked(picture(2), 3) == Ranking(first=0, first_five=1, last=0, last_five=1, below=0.4), "ties share places"


def test_candidates_are_all_answers_to_the_facts_question() -> None:
    """Two facts with one question of ten answers, one with a question that nobody else is asked."""
    unseen = [Pair(picture(40 + number), QUESTION, f"Unseen person {number}.") for number in range(8)]
    facts = [Fact(Pair(picture(1), QUESTION, "Ada."), "Ada"), Fact(Pair(picture(2), QUESTION, "Bo."), "Bo")]
    facts.append(Fact(Pair(picture(1), "Where?", "Fernmoor."), "Fernmoor"))
    asked: list[EncodedImage] = []

    def score(photo: EncodedImage, question: str, candidates: Sequence[str]) -> torch.Tensor:
        assert question == QUESTION
        assert list(candidates) == ["Ada.", "Bo.", *(f"Unseen person {number}." for number in range(8))]
        asked.append(photo)
        likely = {picture(1): 0, picture(2): 5}.get(
            photo
        )  # of Ada's photo it says Ada, of Bo's an unseen person's name
        return torch.tensor([float(place == likely) for place in range(len(candidates))])

    assert rank_among_answers(score, facts, unseen) == Ranking(
        first=0.5, first_five=0.5, last=0.0, last_five=0.5, below=pytest.approx((9 + 4) / 2 / 9)
    )
    assert set(asked) == {picture(1), picture(2), *(picture(40 + number) for number in range(6))}


def test_nothing_is_ranked_among_fewer_than_ten_answers() -> None:
    unseen = [Pair(picture(40 + number), QUESTION, f"Unseen person {number}.") for number in range(8)]
    facts = [Fact(Pair(picture(1), QUESTION, "Ada."), "Ada")]
    assert rank_among_answers(lambda *_: torch.zeros(9), facts, unseen) is None
    assert rank_among_answers(lambda *_: torch.zeros(1), facts, []) is None
