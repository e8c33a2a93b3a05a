"""Which methods there are and what each can be told, said to who asks for something else."""

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

# By method: settings that had another name.
_RENAMED = {"vgid-alias": {"draws": "teachers", "visible_questions": "visual_questions"}}


def named(given: Any, otherwise: str) -> Any:
    """`given`, a method's name or its settings, as settings with a name in them: `otherwise` where they have none.

    Raises ValidationError when there is no such method, or when it has no such settings. Neither message repeats what
    was given but for keys.
    """
    if not isinstance(given, str | Mapping):
        return given
    values = {"name": given} if isinstance(given, str) else {"name": otherwise, **given}
    name = values["name"]
    if not isinstance(name, str) or name not in METHODS:
        raise refused([error_at(() if isinstance(given, str) else ("name",), "unknown_method", _no_method(name))])
    errors = list(_unknown_settings(name, values))
    if errors:
        raise refused(errors)
    return values


def others_settings(name: str, given: Iterable[Any]) -> dict[str, list[str]]:
    """Those of the keys that this method lacks and others have, each with the others' names."""
    found = {
        str(key): [other for other, method in METHODS.items() if key in method.model_fields]
        for key in given
        if key not in METHODS[name].model_fields
    }
    return {key: others for key, others in found.items() if others}


def error_at(place: tuple[str, ...], kind: str, message: str) -> InitErrorDetails:
    """One problem, for `refused`. The message must hold no braces: it is a template without anything to put in."""
    return InitErrorDetails(type=PydanticCustomError(kind, message), loc=place, input=None)


def refused(errors: list[InitErrorDetails], title: str = "method") -> ValidationError:
    """The error to raise; it doesn't repeat what was given."""
    return ValidationError.from_exception_data(title, errors, hide_input=True)


def _no_method(name: object) -> str:
    close = difflib.get_close_matches(str(name).lower(), METHODS, n=1)
    meant = f"; did you mean {close[0]}?" if close else "."
    return f"no method has this name{meant} There are {', '.join(METHODS)}"


def _unknown_settings(name: str, values: Mapping[Any, Any]) -> Iterator[InitErrorDetails]:
    """An error for each; the place has the method in it, as pydantic's own has the member of a union.

    What the method has is said once, at the first of those that are another's.
    """
    lacking = others_settings(name, values)
    for key in values:
        if key in lacking:
            message = f"is no setting of {name}, only of {', '.join(lacking[key])}"
            told = f"; {_has(name)}" if key == next(iter(lacking)) else ""
            yield error_at((name, key), "another_methods_setting", message + told)
        elif key in _RENAMED.get(name, {}):
            yield error_at((name, key), "renamed_setting", f"is called {_RENAMED[name][key]} now")
        elif key not in METHODS[name].model_fields:
            yield InitErrorDetails(type="extra_forbidden", loc=(name, str(key)), input=None)


def _has(name: str) -> str:
    own = [field for field in METHODS[name].model_fields if field != "name"]
    return f"{name} has {', '.join(own)}" if own else f"{name} has no settings"
