"""Words and times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime


def short(keyid: str) -> str:
    """The first digits of a key's id, enough to tell keys apart."""
    return printable(keyid[:16])


def moment(time: datetime) -> str:
    """The time in UTC, to the second."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def printable(text: str) -> str:
    """The text on one line, without what would move a terminal's cursor."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
