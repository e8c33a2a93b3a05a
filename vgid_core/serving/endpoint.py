"""An OpenAI-compatible server, asked as its users ask it: chat completions, with the photo as a data URL."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httpx

from vgid_core.config import EvaluationConfig
from vgid_core.data.pairs import EncodedImage
from vgid_core.serving.errors import EndpointRefused, EndpointUnreachable, InvalidEndpoint

# A server may load a model before its first answer.
_TIMEOUT = httpx.Timeout(300.0, connect=10.0)
_CONNECTION_TRIES = 2
_NO_SUCH_ROUTE = (404, 405)
# No answer to anybody now. It must not pass for a closed door.
_BUSY = (429, 502, 503, 504)


@dataclass(frozen=True)
class ServedModel:
    """A model that the server lists. parent, root: an adapter's base and its path on the server, where it says so."""

    name: str
    parent: str | None
    root: str | None


@dataclass(frozen=True)
class Reply:
    """A reply to one question. text: None if the server refused with `status`."""

    status: int
    text: str | None = field(repr=False)


class Endpoint:
    """A server at `url`, with or without a trailing /v1. A context manager.

    api_key: sent as a bearer token. Raises InvalidEndpoint for a URL that isn't one, or that holds a password.
    """

    def __init__(self, url: str, api_key: str | None) -> None:
        parsed = _parsed(url)
        path = parsed.path.rstrip("/").removesuffix("/v1")
        self.url = str(parsed.copy_with(path=path or "/", query=None, fragment=None)).rstrip("/")
        if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
            raise InvalidEndpoint("the endpoint's key holds characters that no key has")
        self._http = httpx.Client(
            base_url=self.url,
            headers={} if api_key is None else {"Authorization": f"Bearer {api_key}"},
            timeout=_TIMEOUT,
            # A connection each, as users have: a balancer may send each to another replica, and a server that fails
            # closes its own.
            transport=httpx.HTTPTransport(retries=_CONNECTION_TRIES, limits=httpx.Limits(max_keepalive_connections=0)),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()

    def models(self) -> list[ServedModel]:
        """The models that the server lists; none if it lists nothing. Raises EndpointError."""
        response = self._send("GET", "/v1/models")
        rows = _json(response).get("data") if response.is_success else None
        if not isinstance(rows, list):
            return []
        return [
            ServedModel(row["id"], _text(row.get("parent")), _text(row.get("root")))
            for row in rows
            if isinstance(row, dict) and isinstance(row.get("id"), str)
        ]

    def ask(self, model: str | None, question: str, image: EncodedImage | None) -> Reply:
        """Asks one question, greedily. model: None names no model. image: None asks by text alone.

        Raises EndpointError if the server is busy, or isn't one that chats.
        """
        content: list[dict[str, Any]] = [{"type": "text", "text": question}]
        if image is not None:
            content.insert(0, {"type": "image_url", "image_url": {"url": _data_url(image)}})
        body: dict[str, Any] = {
            "messages": [{"role": "user", "content": content}],
            "temperature": 0,
            "max_tokens": EvaluationConfig().max_new_tokens,
        }
        if model is not None:
            body["model"] = model
        response = self._send("POST", "/v1/chat/completions", body)
        if not response.is_success:
            return Reply(response.status_code, None)
        try:
            text = _json(response)["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            raise EndpointUnreachable(
                f"{self.url} doesn't answer with chat completions: is this the right URL?"
            ) from None
        return Reply(response.status_code, text if isinstance(text, str) else "")

    def reload(self, served: ServedModel) -> str | None:
        """Has the server load the model anew: an adapter by vLLM's routes, everything by that of `transformers serve`.

        Returns None once that is done, else why it isn't. Raises EndpointError, also if an unloaded adapter doesn't
        come back.
        """
        if served.parent is not None and served.root is not None:
            response = self._send("POST", "/v1/unload_lora_adapter", {"lora_name": served.name})
            if response.is_success:
                self._load_again(served.name, served.root)
                return None
        else:
            response = self._send("POST", "/reset", {})
            if response.is_success:
                return None
        if response.status_code in _NO_SUCH_ROUTE:
            return "the server has no route for it"
        return f"the server refuses it with status {response.status_code}"

    def _load_again(self, name: str, path: str) -> None:
        response = self._send("POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": path})
        if not response.is_success:
            raise EndpointRefused(
                f"the server unloaded '{name}' and doesn't load it again (status {response.status_code}): "
                "load it by hand"
            )

    def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        try:
            response = self._http.request(method, path, json=body)
        except httpx.TimeoutException:
            raise EndpointUnreachable(f"cannot reach {self.url}: no answer in time") from None
        except httpx.TransportError:
            raise EndpointUnreachable(f"cannot reach {self.url}: connection refused or cut off") from None
        if response.status_code in _BUSY:
            raise EndpointUnreachable(f"{self.url} is busy or not ready (status {response.status_code})")
        return response


def _parsed(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InvalidEndpoint("--endpoint: must look like http://host:port")
    if parsed.userinfo:
        raise InvalidEndpoint("--endpoint: holds a password; a key belongs in VGID_ENDPOINT_KEY")
    return parsed


def _data_url(image: EncodedImage) -> str:
    return f"data:image/{image.format};base64,{base64.b64encode(image.data).decode()}"


def _json(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
