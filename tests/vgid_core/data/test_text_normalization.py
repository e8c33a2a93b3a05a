"""What is compared of texts, in any script."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.tokenize import tokenize

from vgid_core.data.text_normalization import normalized, split_in_half, word_count, words
from vgid_core.evaluation.measures.rouge import rouge_l

ASCII = st.text(st.characters(min_codepoint=32, max_codepoint=126))


@given(ASCII)
def test_of_ascii_texts_with_words_they_are_those_of_rouge_score(text: str) -> None:
    if any(character.isalnum() for character in text):
        assert words(text) == tokenize(text, None)


@given(st.text(min_size=1))
def test_no_text_but_spaces_is_empty(text: str) -> None:
    assert bool(words(text)) == bool(normalized(text))


@given(st.text())
def test_a_text_is_itself_however_its_characters_are_put_together(text: str) -> None:
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert normalized(unicodedata.normalize(form, text)) == normalized(text)
        assert words(unicodedata.normalize(form, text)) == words(text)


@pytest.mark.parametrize(
    ("answer", "another"),
    [
        ("Это Анна Петрова.", "Это Борис Смирнов."),
        ("Анна Петрова родилась в Казани в 1987 году.", "Иван Сидоров жил на Урале до 1988 года."),
        ("هذه ليلى حداد.", "هذا عمر نصار."),
        ("她出生于巴黎。", "我不认识他们"),
        ("これは田中花子です。", "知らない人。"),
        ("यह अनीता शर्मा है।", "मैं इन्हें नहीं जानता।"),
        ("นี่คือสมชาย", "ไม่รู้จัก"),
        ("Núñez vive en Cádiz.", "No conozco a nadie."),
        ("🙂🎂", "🚲"),
        ("❤️", "☀️"),
    ],
)
def test_an_answer_is_told_from_another_in_every_script(answer: str, another: str) -> None:
    assert rouge_l([answer], [answer]) == 1.0
    assert rouge_l([unicodedata.normalize("NFD", answer)], [answer]) == 1.0
    assert rouge_l([another], [answer]) < 0.5


def test_scripts_without_spaces_are_compared_letter_by_letter() -> None:
    assert words("她出生于巴黎。") == list("她出生于巴黎")
    assert set(words("她出生于巴黎。")) & set(words("巴黎")) == set("巴黎")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("O´Brien", ["o", "brien"]),
        ("infor\u00admation", ["information"]),
        ("\u200fليلى\u200e", ["ليلى"]),
        ("snake_case isn't", ["snake", "case", "isn", "t"]),
        ("ที่", ["ที่"]),
    ],
)
def test_marks_and_what_cannot_be_seen_are_no_words_of_their_own(text: str, found: list[str]) -> None:
    assert words(text) == found


def test_two_letters_without_spaces_count_as_one_word() -> None:
    assert word_count("The shirt is blue.") == 4
    assert word_count("衬衫是蓝色的。") == 3
    assert word_count("......") == 0


@pytest.mark.parametrize(
    ("text", "first", "second"),
    [
        ("This is Ada Quill.", "This is ", "Ada Quill."),
        ("她出生于巴黎。", "她出生", "于巴黎。"),
        ("ที่ที่", "ที่", "ที่"),
        ("12/05/1987.", "", "12/05/1987."),
        ("Jean-Luc.", "", "Jean-Luc."),
        ("👨‍👩‍👧", "", "👨‍👩‍👧"),
    ],
)
def test_halves_are_of_words_or_of_letters_where_no_spaces_part_them(text: str, first: str, second: str) -> None:
    assert split_in_half(text) == (first, second)
