"""Texts as they are compared: words of any script, and one form for what is written alike."""

from __future__ import annotations

import unicodedata

import regex

# Scripts that put no space between words: there each letter, with its marks, is compared by itself.
_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]"
_SPACED = rf"[\p{{L}}\p{{N}}--{_UNSPACED}]"
_WORD = regex.compile(rf"(?V1){_UNSPACED}\p{{M}}*|{_SPACED}[\p{{M}}{_SPACED}]*")
_UNSEEN = regex.compile(r"\p{Default_Ignorable_Code_Point}")  # hyphens that may come, joiners, which way to read
_CHARACTER = regex.compile(r"\X")  # with all that belongs to it


def alike(text: str) -> str:
    """The same for texts that differ in capitals, in spaces, or in how a character is put together (NFKC) alone.

    Nor does what can't be seen count, such as soft hyphens. A space of no width is a space.
    """
    plain = composed(composed(_UNSEEN.sub("", text.replace("\u200b", " "))).casefold())
    return " ".join(_UNSEEN.sub("", plain).split())


def words(text: str) -> list[str]:
    """Its words, in one form; of a text without letters or digits (emoji, say) its characters but spaces.

    Of ASCII texts the very words that rouge-score's own tokenizer finds, which sees nothing but a-z and 0-9.
    """
    plain = alike(text)
    found: list[str] = _WORD.findall(plain)
    return found or list(plain.replace(" ", ""))


def word_count(text: str) -> float:
    """How many words it has, about: where no spaces part them, two letters count as one."""
    return sum(0.5 if regex.match(_UNSPACED, word) else 1.0 for word in _WORD.findall(alike(text)))


def halves(text: str) -> tuple[str, str]:
    """Its words up to the middle and from there on; where no spaces part them, its letters. One word: all second."""
    parts = list(regex.finditer(r"\S+", text))
    if len(parts) == 1 and regex.search(_UNSPACED, text):
        parts = list(_CHARACTER.finditer(text))
    start = parts[len(parts) // 2].start()
    return text[:start], text[start:]


def composed(text: str) -> str:
    """The same for texts that differ in how their characters are put together alone (NFKC)."""
    return unicodedata.normalize("NFKC", text)
