"""Texts of one line that identify something, and moments.

Two identifiers that look the same are the same: what can't be seen is refused, as is what turns the writing. That is
Unicode's control, format, private and unassigned characters, its line separators, and letters and marks that show
nothing (`Default_Ignorable_Code_Point`, and the blank of Braille). Joiners are among them: Persian, Hindi and emoji use
them, but with one in it an identifier looks like another.

A subject's reference is often a name, and Persian names are written with a joiner or without. It is never shown, only
searched by its hash, so joiners are left out before that: both spellings find the person.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

MAX_METADATA = 16

# What a regular expression can say in every language that generators use: the first 65,536 characters by number.
_UNSEEN_BUT_JOINERS = (
    r"\x00-\x1f\x7f-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    r"\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ue000-\uf8ff\ufdd0-\ufdef\ufe00-\ufe0f\ufeff\uffa0"
    r"\ufff0-\ufffb\ufffe\uffff"
)
_UNSEEN = rf"{_UNSEEN_BUT_JOINERS}\u200c\u200d"
_UNSEEN_CATEGORIES = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
_SHOWS_NOTHING = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_JOINERS = dict.fromkeys(map(ord, "\u200c\u200d"))
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE)


def check_not_blank(value: str) -> str:
    """The text. Raises PydanticCustomError where it is blank."""
    if not value.strip():
        raise PydanticCustomError("blank", "must not be empty")
    return value


def _check_seen(value: str) -> str:
    if any(unicodedata.category(each) in _UNSEEN_CATEGORIES for each in value) or _SHOWS_NOTHING.search(value):
        raise PydanticCustomError("unseen", "holds a character that can't be seen")
    return value


def _check_key_seen(value: str) -> str:
    _check_seen(value.partition("=")[0])
    return value


def _as_searched(value: str) -> str:
    """Without joiners, and in NFC: else the same letters in another encoding would hash differently."""
    return unicodedata.normalize("NFC", check_not_blank(_check_seen(value.translate(_JOINERS).strip())))


def _read_rfc_3339(value: Any) -> datetime:
    """The moment. Refuses, among others, a number: pydantic would take it as seconds or milliseconds since 1970."""
    try:
        if isinstance(value, str) and _RFC_3339.fullmatch(value):
            return datetime.fromisoformat(value.upper())
    except ValueError:
        pass  # such as a 30th of February
    message = "must be a moment with its time zone, as RFC 3339 has it: 2031-05-01T00:00:00Z"
    raise PydanticCustomError("rfc_3339", message)


def _check_instant(value: datetime) -> datetime:
    if not 2000 <= value.year <= 2200:
        raise PydanticCustomError("year", "must lie between the years 2000 and 2200")
    return value.astimezone(UTC)


def _check_metadata(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """Gives one error for the whole field. The keys are the client's free text, and errors don't repeat free text."""
    try:
        return validate(value)
    except ValidationError:
        message = f"takes up to {MAX_METADATA} strings of up to 500 characters, under keys of 1 to 64 characters"
        raise PydanticCustomError("metadata", message) from None


Instant = Annotated[AwareDatetime, BeforeValidator(_read_rfc_3339), AfterValidator(_check_instant)]
Line = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200, pattern=rf"^[^{_UNSEEN}]+$"),
    AfterValidator(check_not_blank),
    AfterValidator(_check_seen),
]
Reference = Annotated[
    str,
    # Spaces and line breaks around it go, so that a reference read from a file is the same. Then a blank one is empty.
    StringConstraints(strip_whitespace=True, min_length=1, max_length=500, pattern=rf"^[^{_UNSEEN_BUT_JOINERS}]+$"),
    AfterValidator(_as_searched),
]
Metadata = Annotated[
    dict[
        Annotated[
            str,
            StringConstraints(min_length=1, max_length=64, pattern=rf"^[^{_UNSEEN}]+$"),
            AfterValidator(check_not_blank),
            AfterValidator(_check_seen),
        ],
        Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00]*$")],
    ],
    Field(max_length=MAX_METADATA),
    WrapValidator(_check_metadata),
]
MetadataFilter = Annotated[
    str,
    StringConstraints(pattern=rf"^[^={_UNSEEN}]{{1,64}}=[^\x00]{{0,500}}$"),
    AfterValidator(_check_key_seen),
]
