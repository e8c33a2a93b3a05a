"""Describes settings classes: their options, and validation errors as lines that name keys."""

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
    """One field of a settings class. inside: the settings classes of its value, if it is a table."""

    name: str
    kind: str
    default: str
    bounds: str
    meaning: str
    inside: tuple[type[BaseModel], ...] = ()


def options_of(settings: type[BaseModel]) -> Iterator[Option]:
    """The fields of `settings` in their order."""
    for name, field in settings.model_fields.items():
        inside = tuple(kind for kind in _alternatives(field.annotation) if _is_settings(kind))
        yield Option(
            name=name,
            kind=" or ".join(
                dict.fromkeys(_type_name(kind) for kind in _alternatives(field.annotation) if _is_shown(kind, field))
            ),
            default=_default(field),
            bounds=", ".join(_bounds(field)),
            meaning=field.description or "",
            inside=inside,
        )


def error_lines(error: ValidationError, settings: type[BaseModel], values: Mapping[str, Any]) -> list[str]:
    """One line for each problem, beginning with the dotted key as the user wrote it."""
    lines = []
    for problem in error.errors(include_url=False):
        key = ".".join(_written_key(settings, problem["loc"], values))
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = f"unknown key{_suggestion(settings, problem['loc'])}"
        elif problem["type"] in ("model_type", "model_attributes_type", "dict_type"):
            message = "must be a table of settings"
        lines.append(f"{key}: {message}" if key else message)
    return list(dict.fromkeys(lines))


def _written_key(settings: type[BaseModel], loc: Sequence[str | int], values: Mapping[str, Any]) -> list[str]:
    """The parts of a key without those that pydantic adds: union members' names, and "[key]" for dictionary keys."""
    parts, here = [], values
    for index, part in enumerate(loc):
        if part == "[key]":
            continue
        known = isinstance(here, Mapping) and part in here
        last = index + 1 == len(loc)
        if not known and (_member(_classes_at(settings, loc[:-1]), part) if last else isinstance(here, Mapping)):
            continue
        parts.append(str(part))
        here = here[part] if known else {}  # type: ignore[index]
    return parts


def _suggestion(settings: type[BaseModel], loc: Sequence[str | int]) -> str:
    known = [name for cls in _classes_at(settings, loc[:-1]) for name in cls.model_fields]
    close = difflib.get_close_matches(str(loc[-1]), known, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known here: {', '.join(dict.fromkeys(known))}" if known else ""


def _classes_at(settings: type[BaseModel], loc: Sequence[str | int]) -> list[type[BaseModel]]:
    """The settings classes at `loc`: of a union, the member that pydantic names, else all members."""
    classes: list[type[BaseModel]] = [settings]
    for part in loc:
        classes = _member(classes, part) or [
            inner for cls in classes for option in options_of(cls) if option.name == part for inner in option.inside
        ]
    return classes


def _member(classes: Sequence[type[BaseModel]], part: str | int) -> list[type[BaseModel]]:
    """The class of a union that pydantic names `part`, in a list; empty if there is none."""
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


def _is_shown(kind: Any, field: FieldInfo) -> bool:
    """Whether the type is listed: all but None as the default."""
    return kind is not type(None) or field.default is not None


def _type_name(kind: Any) -> str:
    if kind is type(None):
        return "none"
    if _is_settings(kind):
        return "settings"
    origin = get_origin(kind)
    if origin is Literal:
        return ", ".join(str(value) for value in get_args(kind))
    if origin is not None:
        element = _type_name(_alternatives(get_args(kind)[-1 if origin is dict else 0])[0])
        return f"table of {element}" if origin is dict else f"list of {element}"
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
    for constraint in field.metadata:
        for attribute, sign in _SIGNS.items():
            limit = getattr(constraint, attribute, None)
            if limit is not None:
                yield f"{sign} {limit}"
