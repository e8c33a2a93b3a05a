"""All attacks together: which figures the data allows, and candidate ranking by each score."""

from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from tests.vgid_core.support.tiny import SENTENCES, picture
from vgid_core.config import AttackPlan
from vgid_core.data.facts import Fact
from vgid_core.data.pairs import Pair, PairSet
from vgid_core.evaluation.attacks import Figures, run_attacks
from vgid_core.evaluation.measures.candidate_ranking import (
    Score,
    by_first_token,
    by_logit_lens,
    by_whole_answer,
    rank_among_answers,
)
from vgid_core.models.base import BaseModel
from vgid_core.scoring.packed.scorer import PackedScorer

QUESTION = SENTENCES[0]
FACTS = [Fact(Pair(picture(1), QUESTION, "Ada Quill."), "Ada Quill")]
UNSEEN = PairSet.of(
    "unseen",
    [Pair(picture(40 + number), QUESTION, f"{letter} Marsh.") for number, letter in enumerate("BCDEFGHIJ")],
)
PLACES = {"first", "first_five", "last", "last_five", "below"}


def figures(base: BaseModel, scorer: PackedScorer, unseen: PairSet | None) -> Figures:
    forget = PairSet.of("forget", [fact.pair for fact in FACTS])
    return run_attacks(base, scorer, forget, unseen, FACTS, AttackPlan(), seed=0)


def rankings(found: Figures) -> dict[str, set[str]]:
    """The places that are reported, by score."""
    parts = [name.split(".") for name in found if name.startswith("ranking.")]
    return {score: {place for _, other, place in parts if other == score} for _, score, _ in parts}


def below(score: Score, unseen: Sequence[Pair]) -> float:
    ranking = rank_among_answers(score, FACTS, unseen)
    assert ranking is not None
    return ranking.below


def test_candidates_are_ranked_by_whole_answer_first_token_and_the_middle_layers_lens(base: BaseModel) -> None:
    scorer = PackedScorer(base)
    found = figures(base, scorer, UNSEEN)
    assert rankings(found) == {"whole_answer": PLACES, "first_token": PLACES, "lens": PLACES}
    first_of_two = by_logit_lens(base, scorer, 0)
    by = {"whole_answer": by_whole_answer(scorer), "first_token": by_first_token(scorer), "lens": first_of_two}
    expected = {name: below(score, UNSEEN.pairs) for name, score in by.items()}
    assert {name: found[f"ranking.{name}.below"] for name in by} == expected
    assert len(set(expected.values())) == 3


def test_nothing_is_ranked_without_people_unseen(base: BaseModel) -> None:
    assert rankings(figures(base, PackedScorer(base), None)) == {}


def test_a_decoder_whose_last_norm_has_another_name_gets_no_lens(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LFM2's, for one."""
    scorer, decoder = PackedScorer(base), base.model.get_decoder()
    another = SimpleNamespace(layers=decoder.layers, parameters=decoder.parameters)
    monkeypatch.setattr(type(base.model), "get_decoder", lambda _model: another)
    assert rankings(figures(base, scorer, UNSEEN)) == {"whole_answer": PLACES, "first_token": PLACES}
