"""Settings told in words: every option of a class of settings, and what is wrong with values that don't fit it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

_SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "min_length": "length ≥", "max_length": "length ≤"}

_WORDS = {"str": "text", "SecretStr": "text", "int": "whole number", "float": "number", "bool": "true or false"}


@dataclass(frozen=True)
class Option:
    """One field of a class of settings. `inside` are the classes that its own settings may have, if it has any."""

    name: str
    kind: str
    default: str
    bounds: str
    meaning: str
    inside: tuple[type[BaseModel], ...] = ()


def options_of(settings: type[BaseModel]) -> Iterator[Option]:
    """Every field of `settings`, in its order."""
    for name, field in settings.model_fields.items():
        inside = tuple(kind for kind in _alternatives(field.annotation) if _is_settings(kind))
        yield Option(
            name=name,
            kind=" or ".join(
                dict.fromkeys(_named(kind) for kind in _alternatives(field.annotation) if _told(kind, field))
            ),
            default=_default(field),
            bounds=", ".join(_bounds(field)),
            meaning=field.description or "",
            inside=inside,
        )


def readable(error: ValidationError, settings: type[BaseModel], values: Mapping[str, Any]) -> list[str]:
    """A line a problem, each beginning with the dotted key as it was written."""
    lines = []
    for problem in error.errors(include_url=False):
        place = _as_written(settings, problem["loc"], values)
        key = ".".join(place)
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = f"unknown key{_meant(settings, problem['loc'])}"
        elif problem["type"] in ("model_type", "model_attributes_type", "dict_type"):
            message = "must be a table of settings"
        lines.append(f"{key}: {message}" if key else message)
    return list(dict.fromkeys(lines))


def _as_written(settings: type[BaseModel], loc: Sequence[str | int], values: Mapping[str, Any]) -> list[str]:
    """Without what pydantic adds: the name of a union's member, and a mark at a dictionary's key."""
    place, here = [], values
    for index, part in enumerate(loc):
        if part == "[key]":
            continue
        known = isinstance(here, Mapping) and part in here
        last = index + 1 == len(loc)
        if not known and (_member(_classes_at(settings, loc[:-1]), part) if last else isinstance(here, Mapping)):
            continue
        place.append(str(part))
        here = here[part] if known else {}  # type: ignore[index]
    return place


def _meant(settings: type[BaseModel], loc: Sequence[str | int]) -> str:
    known = [name for cls in _classes_at(settings, loc[:-1]) for name in cls.model_fields]
    close = difflib.get_close_matches(str(loc[-1]), known, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known here: {', '.join(dict.fromkeys(known))}" if known else ""


def _classes_at(settings: type[BaseModel], loc: Sequence[str | int]) -> list[type[BaseModel]]:
    """Whose settings stand there: of a union's members the one that pydantic names, else each of them."""
    classes: list[type[BaseModel]] = [settings]
    for part in loc:
        classes = _member(classes, part) or [
            inner for cls in classes for option in options_of(cls) if option.name == part for inner in option.inside
        ]
    return classes


def _member(classes: Sequence[type[BaseModel]], part: str | int) -> list[type[BaseModel]]:
    """The one of a union's classes that pydantic calls `part`, if it does."""
    return [cls for cls in classes if len(classes) > 1 and cls.model_fields["name"].default == part]


def _alternatives(annotation: Any) -> list[Any]:
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        return [kind for part in get_args(annotation) for kind in _alternatives(part)]
    if hasattr(annotation, "__metadata__"):  # Annotated
        return _alternatives(annotation.__origin__)
    return [annotation]


def _is_settings(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _told(kind: Any, field: FieldInfo) -> bool:
    """None goes without saying where it is the default."""
    return kind is not type(None) or field.default is not None


def _named(kind: Any) -> str:
    if kind is type(None):
        return "none"
    if _is_settings(kind):
        return "settings"
    origin = get_origin(kind)
    if origin is Literal:
        return ", ".join(str(value) for value in get_args(kind))
    if origin is not None:
        what = _named(_alternatives(get_args(kind)[-1 if origin is dict else 0])[0])
        return f"table of {what}" if origin is dict else f"list of {what}"
    return _WORDS.get(kind.__name__, str(kind.__name__))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "none"
    if isinstance(value, BaseModel):
        name = getattr(value, "name", None)
        return str(name) if name else ""
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value) if value not in ({}, [], ()) else ""


def _bounds(field: FieldInfo) -> Iterator[str]:
    for mark in field.metadata:
        for attribute, sign in _SIGNS.items():
            limit = getattr(mark, attribute, None)
            if limit is not None:
                yield f"{sign} {limit}"
