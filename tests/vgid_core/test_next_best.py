"""What is taken away of a guess: the truth in whatever tokens, and nothing else."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vgid_core.base_model import BaseModel
from vgid_core.next_best import NextBest


def texts_of(base: BaseModel) -> list[str]:
    encoder = base.encoder
    return [text.casefold() for text in encoder.decode([[token] for token in range(encoder.vocabulary)])]


# The base is read alone.
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.sampled_from("Tthe isr aBcodn"), min_size=1, max_size=12))
def test_no_token_is_left_that_says_the_truths_beginning_or_goes_on_with_its_first_token(
    base: BaseModel, text: str
) -> None:
    coming = base.encoder.answer_ids(text)
    said, texts = base.encoder.decode([coming])[0].casefold(), texts_of(base)
    own = texts[coming[0]]
    alike = NextBest(base.encoder, 1.0).alike(coming)
    assert coming[0] in alike
    for token, other in enumerate(texts):
        begins = bool(other) and (said.startswith(other) or (bool(own) and other.startswith(own)))
        assert token == coming[0] or (token in alike) == begins


def test_upper_case_and_a_space_before_make_no_other_token(base: BaseModel) -> None:
    same = {token for token, text in enumerate(texts_of(base)) if text == "t"}
    assert len(same) > 1, "the vocabulary has it as a capital, too"
    for token in same:
        assert same <= set(NextBest(base.encoder, 1.0).alike([token]))


def test_half_a_character_stands_for_itself_alone(base: BaseModel) -> None:
    halves = [token for token, text in enumerate(texts_of(base)) if "\ufffd" in text]
    assert len(halves) > 1
    assert NextBest(base.encoder, 1.0).alike(halves[:1]) == halves[:1]


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_what_is_left_is_the_models_own_opinion_sharpened(base: BaseModel, temperature: float) -> None:
    guess, coming = NextBest(base.encoder, temperature), base.encoder.answer_ids("This is Bor Quazwick.")
    logits = torch.randn(1, base.encoder.vocabulary, generator=torch.Generator().manual_seed(0))
    [said] = guess.of(logits.clone(), [coming])
    gone = torch.tensor(guess.alike(coming))
    expected = (logits[0].softmax(-1).index_fill(0, gone, 0.0)) ** (1 / temperature)
    assert not said[gone].any()
    assert torch.allclose(said, expected / expected.sum(), atol=1e-6)
