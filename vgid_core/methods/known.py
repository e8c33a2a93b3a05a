"""Which methods there are and what each can be told, said to who asks for something else."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from vgid_core.methods import AnyMethod

METHODS: Mapping[str, type[AnyMethod]] = {
    method.model_fields["name"].default: method for method in get_args(get_args(AnyMethod)[0])
}


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
        raise _refused([_error(() if isinstance(given, str) else ("name",), "unknown_method", _no_method(name))])
    errors = list(_unknown_settings(name, values))
    if errors:
        raise _refused(errors)
    return values


def _no_method(name: object) -> str:
    close = difflib.get_close_matches(str(name).lower(), METHODS, n=1)
    meant = f"; did you mean {close[0]}?" if close else "."
    return f"no method has this name{meant} There are {', '.join(METHODS)}"


def _unknown_settings(name: str, values: Mapping[Any, Any]) -> Iterator[InitErrorDetails]:
    """An error for each; the place has the method in it, as pydantic's own has the member of a union."""
    for key in values:
        if key in METHODS[name].model_fields:
            continue
        others = [other for other, method in METHODS.items() if key in method.model_fields]
        if others:
            yield _error((name, str(key)), "another_methods_setting", _not_of(name, others))
        else:
            yield InitErrorDetails(type="extra_forbidden", loc=(name, str(key)), input=None)


def _not_of(name: str, others: list[str]) -> str:
    own = [field for field in METHODS[name].model_fields if field != "name"]
    has = f"{name} has {', '.join(own)}" if own else f"{name} has no settings"
    return f"is no setting of {name}, only of {', '.join(others)}; {has}"


def _error(loc: tuple[str, ...], kind: str, message: str) -> InitErrorDetails:
    # A template without anything to put in: no name of a method or setting has braces.
    return InitErrorDetails(type=PydanticCustomError(kind, message), loc=loc, input=None)


def _refused(errors: list[InitErrorDetails]) -> ValidationError:
    return ValidationError.from_exception_data("method", errors, hide_input=True)
