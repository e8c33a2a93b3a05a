"""Refuses texts that the model itself would refuse, an hour later."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from api.forget_requests.image_resolver import pair_sets
from api.problems import FieldError, InvalidRequest
from api.schemas import SubmitRequest
from vgid_core.data.text_limits import TextLimits


def check_texts(request: SubmitRequest, model_path: str) -> None:
    """Raises InvalidRequest if a text holds a control token, or a pair is longer than the model's context.

    A model that isn't a folder of this machine, or has no fast tokenizer, is checked by the worker alone.
    """
    limits = limits_of(model_path)
    if limits is None:
        return
    errors = []
    for loc, pairs in pair_sets(request):
        for index, pair in enumerate(pairs):
            for name, text in (("question", pair.question), ("answer", pair.answer), ("person", pair.person or "")):
                if limits.holds_control_token(text):
                    errors.append(FieldError("holds one of the model's control tokens", (*loc, index, name)))
            if limits.is_too_long(pair.question, pair.answer):
                detail = f"has more tokens than the model takes ({limits.context}), question and answer together"
                errors.append(FieldError(detail, (*loc, index)))
    if errors:
        raise InvalidRequest.of(errors)


@lru_cache(maxsize=8)
def limits_of(model_path: str) -> TextLimits | None:
    """The model's limits; None where its files don't tell them."""
    return TextLimits.read(Path(model_path))
