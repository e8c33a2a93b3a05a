"""Texts as they are compared: words of any script, and one form for what is written alike."""

from __future__ import annotations

import unicodedata

import regex

# Scripts that put no space between words: there each letter, with its marks, is compared by itself.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
_WORD = regex.compile(rf"[{_UNSPACED}]\p{{M}}*|(?:(?![{_UNSPACED}])[\p{{L}}\p{{N}}\p{{M}}])+")


def alike(text: str) -> str:
    """The same for texts that differ in capitals, in spaces or in how a character is put together (NFKC) alone."""
    return " ".join(composed(composed(text).casefold()).split())


def words(text: str) -> list[str]:
    """Its words, in one form; of a text without letters or digits (emoji, say) its characters but spaces.

    Of ASCII texts the very words that rouge-score's own tokenizer finds, which sees nothing but a-z and 0-9.
    """
    plain = alike(text)
    found: list[str] = _WORD.findall(plain)
    return found or list(plain.replace(" ", ""))


def composed(text: str) -> str:
    """The same for texts that differ in how their characters are put together alone (NFKC)."""
    return unicodedata.normalize("NFKC", text)
