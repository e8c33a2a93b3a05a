"""Text normalization for comparisons, and words of any script."""

from __future__ import annotations

import unicodedata

import regex

# Scripts that put no space between words. There each letter, with its marks, counts as a word.
_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]"
_SPACED = rf"[\p{{L}}\p{{N}}--{_UNSPACED}]"
_WORD = regex.compile(rf"(?V1){_UNSPACED}\p{{M}}*|{_SPACED}[\p{{M}}{_SPACED}]*")
_INVISIBLE = regex.compile(r"\p{Default_Ignorable_Code_Point}")  # soft hyphens, joiners, marks of direction
_GRAPHEME = regex.compile(r"\X")


def normalized(text: str) -> str:
    """Folds case, NFKC-normalizes, drops invisible characters and collapses whitespace.

    Texts that differ in nothing else come out equal. A zero-width space counts as a space.
    """
    plain = nfkc(nfkc(_INVISIBLE.sub("", text.replace("\u200b", " "))).casefold())
    return " ".join(_INVISIBLE.sub("", plain).split())


def words(text: str) -> list[str]:
    """The normalized words of a text; the characters, except spaces, of one without letters and digits (emoji).

    On ASCII texts it agrees with rouge-score's own tokenizer, which drops everything but a-z and 0-9.
    """
    plain = normalized(text)
    found: list[str] = _WORD.findall(plain)
    return found or list(plain.replace(" ", ""))


def word_count(text: str) -> float:
    """The approximate number of words: in scripts without spaces, two letters count as one word."""
    return sum(0.5 if regex.match(_UNSPACED, word) else 1.0 for word in _WORD.findall(normalized(text)))


def split_in_half(text: str) -> tuple[str, str]:
    """Splits a text in the middle of its words, or of its letters in scripts without spaces.

    A text of one word is all in the second half.
    """
    parts = list(regex.finditer(r"\S+", text))
    if len(parts) == 1 and regex.search(_UNSPACED, text):
        parts = list(_GRAPHEME.finditer(text))
    start = parts[len(parts) // 2].start()
    return text[:start], text[start:]


def nfkc(text: str) -> str:
    """Unicode normalization form NFKC: one form for characters that can be composed in several ways."""
    return unicodedata.normalize("NFKC", text)
