"""What is taken away of a guess: the truth in whatever tokens, and nothing else."""

from collections.abc import Iterable, Sequence
from typing import cast

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vgid_core.base_model import BaseModel
from vgid_core.encoding import PromptEncoder
from vgid_core.next_best import NextBest, Untold

NOTHING_TELLS = Untold(lambda _answer: ())


class Pieces:
    """An encoder whose tokens are these texts, put together as they stand."""

    def __init__(self, *pieces: str) -> None:
        self._pieces = pieces

    @property
    def vocabulary(self) -> int:
        return len(self._pieces)

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        return ["".join(self._pieces[token] for token in each).strip() for each in ids]

    def ids(self, answer: Sequence[str]) -> list[int]:
        return [self._pieces.index(piece) for piece in answer]

    def texts(self, ids: Iterable[int]) -> set[str]:
        return {self._pieces[token] for token in ids}

    def alike(self, answer: Sequence[str], place: int) -> set[str]:
        """The pieces that say as much as what is to come at that place of an answer in pieces."""
        guess = NextBest(cast(PromptEncoder, self), 1.0, NOTHING_TELLS)
        return self.texts(guess.alike(self.ids(answer), place))


@pytest.mark.parametrize(
    ("answer", "place", "others", "alike"),
    [
        # The truth's beginning, in more or fewer letters, in capitals, and what goes on from the true token.
        (
            ["This is", " En", "ri", "que"],
            2,
            ["r", " Ri", "riqu", "ric", "io", "que "],
            {"ri", "r", " Ri", "riqu", "ric"},
        ),
        # Past the true token, into those that come: across a space, too.
        (["This is", " Bor", " Quaz", "wick", "."], 2, ["quazwi", "Q", " Quiz"], {" Quaz", "quazwi", "Q"}),
        # With or without marks over letters, or something before the first letter.
        (["a", " Jos", "\u00e9", "."], 2, ["e", "E", "es", "o"], {"\u00e9", "e", "E", "es"}),
        (["a", " O", "\u2019Brien"], 2, ["'Brien", "Brien", " Br", "Bryan"], {"\u2019Brien", "'Brien", "Brien", " Br"}),
        (["a", " Sm", "-Jones"], 2, ["Jones", " Jon", "-", "ne"], {"-Jones", "Jones", " Jon"}),
        # The end of what was said once more, and then the truth.
        (["a", " Sorens", "en", "."], 2, ["sen", "nsen", "se", "s", "son", "e"], {"en", "sen", "nsen", "e"}),
        (["a", " Hug", "o", "."], 2, ["go", "g", "ugo", "oo"], {"o", "go", "ugo", "oo"}),
        # But nothing is said again where a word begins.
        (["a", " Nor", " Al"], 2, ["ral", "A", "al"], {" Al", "A", "al", "a"}),
        # A digit and what begins with it.
        (["tel", " 4", "7"], 2, ["70", "47", "4", "1"], {"7", "70", "47"}),
        # A joiner and what it joins, but no other end of a name.
        (["a", " Nor", "-", "x"], 2, [".", "--"], {"-", "x"}),
    ],
)
def test_what_says_as_much_as_the_truth(answer: list[str], place: int, others: list[str], alike: set[str]) -> None:
    assert Pieces(*answer, *others).alike(answer, place) == alike


@pytest.mark.parametrize(
    ("place", "untold", "told"),
    [
        # The surname is known, too: not its beginning, nor what it goes on with. Half of it is no beginning of a word.
        (2, {"phine", " Wex", "W", "Wexl", "ler", " Oak", "O", "mere"}, {" was born in", "l", "m", ".", " Rose"}),
        # What was said already needn't be kept back.
        (4, {"ler", "l", " Oak", "O", "mere"}, {" Wex", "W", "phine", "m", ".", " Rose"}),
    ],
)
def test_no_guess_tells_what_the_answer_tells_later(place: int, untold: set[str], told: set[str]) -> None:
    answer = ["This is", " Del", "phine", " Wex", "ler", " was born in", " Oak", "mere", "."]
    pieces = Pieces(*answer, "W", "Wexl", "l", "O", "m", " Rose")
    ids = pieces.ids(answer)
    telling = {*pieces.ids([" Del", "phine", " Wex", "ler", " Oak", "mere"])}
    guess = NextBest(cast(PromptEncoder, pieces), 1.0, Untold(lambda answer: telling & {*answer}))
    assert pieces.texts(guess.untold(ids, place)) >= untold
    assert pieces.texts(guess.untold(ids, place)).isdisjoint(told)


def test_no_guess_tells_what_only_those_have_who_are_to_be_forgotten() -> None:
    answer = ["This is", " Ta", "m", "."]
    pieces = Pieces(*answer, " Rutherford", "rutherford", " Quill", "quill")
    kept, forgotten = pieces.ids([" Quill", *answer]), pieces.ids([" Rutherford", "quill", *answer])
    untold = Untold(lambda _answer: (), forgotten, kept)
    guess = NextBest(cast(PromptEncoder, pieces), 1.0, untold)
    # "quill" is the forget set's, but another way to write what the retain set has; taken away is that token alone.
    assert pieces.texts(guess.untold(pieces.ids(answer), 2)) == {"m", " Rutherford", "rutherford", "quill"}


def texts_of(base: BaseModel) -> list[str]:
    return base.encoder.decode([[token] for token in range(base.encoder.vocabulary)])


# The base is read alone.
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.sampled_from("Tthe isr aBcodn"), min_size=1, max_size=12))
def test_no_token_of_a_real_vocabulary_is_left_that_says_the_truths_beginning(base: BaseModel, text: str) -> None:
    coming = base.encoder.answer_ids(text)
    said = base.encoder.decode([coming])[0].casefold()
    alike = NextBest(base.encoder, 1.0, NOTHING_TELLS).alike(coming, 0)
    assert alike >= {token for token, other in enumerate(texts_of(base)) if other and said.startswith(other.casefold())}
    assert coming[0] in alike


def test_half_a_character_stands_for_itself_alone(base: BaseModel) -> None:
    halves = [token for token, text in enumerate(texts_of(base)) if "\ufffd" in text]
    assert len(halves) > 1
    assert NextBest(base.encoder, 1.0, NOTHING_TELLS).alike(halves[:2], 1) == {halves[1]}


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_what_is_left_is_the_models_own_opinion_sharpened(base: BaseModel, temperature: float) -> None:
    guess, answer = NextBest(base.encoder, temperature, NOTHING_TELLS), base.encoder.answer_ids("This is Bor Quazwick.")
    logits = torch.randn(1, base.encoder.vocabulary, generator=torch.Generator().manual_seed(0))
    [said] = guess.of(logits.clone(), [(answer, 2)])
    gone = torch.tensor(guess.untold(answer, 2))
    expected = (logits[0].softmax(-1).index_fill(0, gone, 0.0)) ** (1 / temperature)
    assert not said[gone].any()
    assert torch.allclose(said, expected / expected.sum(), atol=1e-6)


def test_a_model_may_say_fewer_tokens_than_there_are_texts_for(base: BaseModel) -> None:
    guess, answer = NextBest(base.encoder, 1.0, NOTHING_TELLS), base.encoder.answer_ids("This is Bor Quazwick.")
    width = max(answer) + 1
    assert any(token >= width for token in guess.alike(answer, 2)) or width == base.encoder.vocabulary
    assert guess.of(torch.zeros(1, width), [(answer, 2)]).sum() == pytest.approx(1)
