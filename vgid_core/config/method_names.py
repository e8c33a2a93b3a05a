"""The methods by name, and errors for unknown methods and unknown settings."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from vgid_core.config.methods import AnyMethod

METHODS: Mapping[str, type[AnyMethod]] = {
    method.model_fields["name"].default: method for method in get_args(get_args(AnyMethod)[0])
}

# Former names of methods, and their names now.
_FORMER_METHODS = {"vgid-alias": "vgid-substitute"}
# By method: former names of settings, and their names now.
_RENAMED = {
    "vgid-substitute": {
        "draws": "teachers",
        "visible_questions": "visual_questions",
        "elsewhere_pairs": "off_target_pairs",
        "bystander_pairs": "neighbour_pairs",
    }
}


def with_method_name(given: Any, default: str) -> Any:
    """Method settings with a `name` key, from a method's name or from settings whose name defaults to `default`.

    Raises ValidationError for an unknown method or an unknown setting. The messages repeat keys, never values.
    """
    if not isinstance(given, str | Mapping):
        return given
    values = {"name": given} if isinstance(given, str) else {"name": default, **given}
    name = values["name"]
    if not isinstance(name, str) or name not in METHODS:
        place = () if isinstance(given, str) else ("name",)
        raise validation_error([error_at(place, "unknown_method", _no_method(name))])
    errors = list(_unknown_settings(name, values))
    if errors:
        raise validation_error(errors)
    return values


def settings_of_other_methods(name: str, keys: Iterable[Any]) -> dict[str, list[str]]:
    """The keys that this method lacks and others have, each with the names of these methods."""
    found = {
        str(key): [other for other, method in METHODS.items() if key in method.model_fields]
        for key in keys
        if key not in METHODS[name].model_fields
    }
    return {key: others for key, others in found.items() if others}


def error_at(place: tuple[str, ...], kind: str, message: str) -> InitErrorDetails:
    """One problem, for `validation_error`. The message must hold no braces, which pydantic takes for placeholders."""
    return InitErrorDetails(type=PydanticCustomError(kind, message), loc=place, input=None)


def validation_error(errors: list[InitErrorDetails], title: str = "method") -> ValidationError:
    """The ValidationError with these problems. It doesn't repeat what was given."""
    return ValidationError.from_exception_data(title, errors, hide_input=True)


def _no_method(name: object) -> str:
    if now := _FORMER_METHODS.get(str(name)):
        return f"{name} is called {now} now"
    close = difflib.get_close_matches(str(name).lower(), METHODS, n=1)
    meant = f"; did you mean {close[0]}?" if close else "."
    return f"no method has this name{meant} There are {', '.join(METHODS)}"


def _unknown_settings(name: str, values: Mapping[Any, Any]) -> Iterator[InitErrorDetails]:
    """An error for each unknown setting, at (method, key), as pydantic places errors in a union's member.

    The first error about another method's setting also lists this method's settings.
    """
    others = settings_of_other_methods(name, values)
    for key in values:
        if key in others:
            message = f"is no setting of {name}, only of {', '.join(others[key])}"
            own_settings = f"; {_has(name)}" if key == next(iter(others)) else ""
            yield error_at((name, key), "another_methods_setting", message + own_settings)
        elif key in _RENAMED.get(name, {}):
            yield error_at((name, key), "renamed_setting", f"is called {_RENAMED[name][key]} now")
        elif key not in METHODS[name].model_fields:
            yield InitErrorDetails(type="extra_forbidden", loc=(name, str(key)), input=None)


def _has(name: str) -> str:
    own = [field for field in METHODS[name].model_fields if field != "name"]
    return f"{name} has {', '.join(own)}" if own else f"{name} has no settings"
