"""Writes docs/reference/http.md from the OpenAPI document.

python -m api.reference_page > docs/reference/http.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fastapi import FastAPI

from api.openapi import openapi_document
from api.routes import artifacts, health, jobs, models, signing_keys, submit
from api.routing import API_VERSION

_INTRODUCTION = """\
# HTTP

Written by `python -m api.reference_page` from the OpenAPI description; a test fails when it is out of date. The service
gives that description itself ([OpenAPI](openapi.md)). How to use it: [Integrate over HTTP](../how-to/http.md).

Every route but `/healthz`, `/readyz` and `/.well-known/vgid-keys.json` wants `Authorization: Bearer KEY`. A client sees
its own jobs only. Times are in UTC, as RFC 3339 alone. Every refusal is a [problem document](problems.md); any route
can answer 400, 408, 431, 500 and 503. Every answer has the header `API-Version`, and where a request with a valid key
was counted, `RateLimit-Policy` and `RateLimit`.
Unknown fields and query parameters are refused; an answer may grow new fields. Wherever there is GET there is HEAD.
"""
_REF = "#/components/schemas/"
# The schemas that have pages of their own.
_OTHER_PAGES = {
    "UnlearnConfig": "[run settings](options.md)",
    "PerturbationConfig": "[perturbation](interventions.md)",
    "ProblemDocument": "[problem document](problems.md)",
}
_BY_EVERY_ROUTE = ("400", "408", "431", "500", "503")
_LIMITS = {
    "minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}",
    "minLength": "length ≥ {}", "maxLength": "length ≤ {}", "minItems": "at least {}", "maxProperties": "at most {}",
}  # fmt: skip

Schema = Mapping[str, Any]


def page() -> str:
    """The whole page in Markdown."""
    app = FastAPI(title="vgid", version=API_VERSION)
    others = [resource.router for resource in (artifacts, models, signing_keys, health)]
    for router in (submit.router, *jobs.routers(), *others):
        app.include_router(router)
    return "\n".join(_Page(openapi_document(app)).parts())


class _Page:
    def __init__(self, document: Schema) -> None:
        self._schemas: Mapping[str, Schema] = document["components"]["schemas"]
        self._operations: dict[str, Schema] = {
            f"{method.upper()} {path}": operation
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        }

    def parts(self) -> Iterator[str]:
        """Yields the page's parts: introduction, routes, objects."""
        yield _INTRODUCTION
        yield "## Routes\n"
        index = ((f"`{route}`", operation["summary"]) for route, operation in self._operations.items())
        yield _table(("route", "what it does"), index)
        for route, operation in self._operations.items():
            yield from self._route(route, operation)
        yield "## Objects\n"
        shown: list[str] = []
        for name in self._objects():
            yield f"### {name}\n"
            yield f"{_line(self._schemas[name].get('description', ''))}\n"
            yield self._like_another(name, shown) or _table(("field", "type", "meaning"), self._fields(name))
            shown.append(name)

    def _route(self, route: str, operation: Schema) -> Iterator[str]:
        yield f"### `{route}`\n"
        yield f"{_sentence(operation['summary'])} {_line(operation.get('description', ''))}\n"
        body = operation.get("requestBody", {}).get("content", {})
        if body:
            kinds = " or ".join(f"`{kind}`" for kind in body)
            yield f"Body: {self._type(body['application/json']['schema'])}, as {kinds}.\n"
        rows = [
            (f"`{each['name']}`", each["in"], self._type(each["schema"]), _line(each.get("description", "")))
            for each in operation.get("parameters", [])
            if each["in"] != "path"
        ]
        if rows:
            yield _table(("parameter", "in", "type", "meaning"), rows)
        yield _table(("status", "answer"), self._answers(operation["responses"]))

    def _answers(self, responses: Mapping[str, Schema]) -> Iterator[tuple[str, ...]]:
        for status, answer in sorted(responses.items()):
            if status not in _BY_EVERY_ROUTE:
                schema = answer.get("content", {}).get("application/json", {}).get("schema")
                object_ = "" if schema is None else f": {self._type(schema)}"
                yield status, _line(answer["description"]).replace("Successful Response", "OK") + object_

    def _objects(self) -> list[str]:
        """The names of the objects in requests and answers, in order of appearance."""
        found: list[str] = []
        waiting = [
            ref
            for part in ("requestBody", "responses")
            for operation in self._operations.values()
            for ref in _refs(operation.get(part))
        ]
        while waiting:
            name = waiting.pop(0)
            if name not in found and name not in _OTHER_PAGES and "properties" in self._schemas[name]:
                found.append(name)
                waiting[:0] = _refs(self._schemas[name])
        return found

    def _like_another(self, name: str, shown: Iterable[str]) -> str | None:
        """A sentence that refers to an earlier object with these fields and more, or None if there is none."""
        own = self._schemas[name]["properties"]
        for other in shown:
            theirs = self._schemas[other]["properties"]
            if own.items() <= theirs.items():
                lacking = ", ".join(f"`{field}`" for field in theirs if field not in own)
                return f"The fields of [{other}](#{other.lower()}) without {lacking}.\n"
        return None

    def _fields(self, name: str) -> Iterator[tuple[str, ...]]:
        schema = self._schemas[name]
        required = set(schema.get("required", ()))
        # In an answer all fields are required, so none is marked.
        marked = required if required != set(schema["properties"]) else set()
        for field, about in schema["properties"].items():
            kind = self._type(about) + (", required" if field in marked else "")
            yield f"`{field}`", kind, _line(about.get("description", ""))

    def _type(self, schema: Schema) -> str:
        """A schema in words."""
        if "$ref" in schema:
            name = schema["$ref"].removeprefix(_REF)
            if name in _OTHER_PAGES:
                return _OTHER_PAGES[name]
            is_object = "properties" in self._schemas[name]
            return f"[{name}](#{name.lower()})" if is_object else self._type(self._schemas[name])
        if "anyOf" in schema:
            return " or ".join(self._type(each) for each in schema["anyOf"])
        if "enum" in schema:
            return ", ".join(f"`{value}`" for value in schema["enum"])
        kind = str(schema.get("format") or schema.get("type", "any"))
        if schema.get("type") == "array":
            kind = f"list of {self._type(schema['items'])}"
        elif schema.get("type") == "object":
            by_pattern = next(iter(schema.get("patternProperties", {}).values()), None)
            inside = schema.get("additionalProperties") or by_pattern
            kind = f"object of {self._type(inside)}" if isinstance(inside, Mapping) else "object"
        return ", ".join([kind, *(text.format(schema[key]) for key, text in _LIMITS.items() if key in schema)])


def _refs(node: Any) -> Iterator[str]:
    """The names of the schemas to which a part of the document refers."""
    if isinstance(node, Mapping):
        if "$ref" in node:
            yield node["$ref"].removeprefix(_REF)
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            yield from _refs(value)


def _sentence(text: str) -> str:
    return text if text.endswith("?") else f"{text}."


def _line(text: str) -> str:
    return " ".join(text.split())


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
