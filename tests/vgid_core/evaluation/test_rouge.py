"""ROUGE-L beside rouge-score's own, and the longest common subsequence written out."""

from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from vgid_core.evaluation.measures.rouge import rouge_l_each

WORDS = st.sampled_from(["This", "is", "Ada", "ada", "Quill", "was", "born", "in", "1987", "Fernmoor.", "a-b", "Q's"])
SENTENCES = st.lists(WORDS, min_size=1, max_size=12).map(" ".join)


@given(st.lists(st.tuples(SENTENCES, SENTENCES), min_size=1, max_size=4))
def test_latin_texts_score_as_rouge_score_scores_them(pairs: list[tuple[str, str]]) -> None:
    theirs = RougeScorer(["rougeL"])
    expected = [theirs.score(right, left)["rougeL"].fmeasure for left, right in pairs]
    assert rouge_l_each([left for left, _ in pairs], [right for _, right in pairs]) == expected


@given(st.text("四五六七八九", min_size=1, max_size=8), st.text("四五六七八九", min_size=1, max_size=8))
def test_letters_of_scripts_without_spaces_count_as_words(said: str, expected: str) -> None:
    lengths = [[0] * (len(expected) + 1) for _ in range(len(said) + 1)]
    for row, one in enumerate(said):
        for column, other in enumerate(expected):
            longer = max(lengths[row][column + 1], lengths[row + 1][column])
            lengths[row + 1][column + 1] = lengths[row][column] + 1 if one == other else longer
    common = lengths[-1][-1]
    f1 = 2 * common / (len(said) + len(expected))
    assert abs(rouge_l_each([said], [expected])[0] - f1) < 1e-9
