"""An OpenAI-compatible server whose models are functions, with vLLM's routes for adapters if wanted."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


@dataclass(frozen=True)
class Prompt:
    """What a model is asked. photo: the bytes of the image, None for text alone."""

    question: str
    photo: bytes | None


# Answers a prompt, or refuses it with a status.
Answer = Callable[[Prompt], str | int]


@dataclass
class ScriptedServer:
    """models: by name; None is what answers requests without a name. parents: the base of each adapter.

    key: what requests must bring, if any. on_load: called when an adapter is loaded; None: there is no such route.
    """

    models: dict[str | None, Answer]
    parents: dict[str, str] = field(default_factory=dict)
    key: str | None = None
    on_load: Callable[[str], int] | None = None
    prompts: list[Prompt] = field(default_factory=list)

    @property
    def app(self) -> Starlette:
        routes = [
            Route("/v1/models", self._list, methods=["GET"]),
            Route("/v1/chat/completions", self._complete, methods=["POST"]),
        ]
        if self.on_load is not None:
            routes.append(Route("/v1/unload_lora_adapter", self._unload, methods=["POST"]))
            routes.append(Route("/v1/load_lora_adapter", self._load, methods=["POST"]))
        return Starlette(routes=routes)

    async def _list(self, request: Request) -> Response:
        if not self._may(request):
            return Response(status_code=401)
        cards = [{"id": name, "object": "model"} | self._lineage(name) for name in self.models if name is not None]
        return JSONResponse({"object": "list", "data": cards})

    def _lineage(self, name: str) -> dict[str, str]:
        return {"parent": self.parents[name], "root": f"/adapters/{name}"} if name in self.parents else {}

    async def _complete(self, request: Request) -> Response:
        if not self._may(request):
            return Response(status_code=401)
        body = await request.json()
        model = self.models.get(body.get("model"))
        if model is None:
            return JSONResponse({"error": {"message": "no such model"}}, status_code=404)
        assert body["temperature"] == 0
        prompt = _prompt(body["messages"])
        self.prompts.append(prompt)
        answer = model(prompt)
        if isinstance(answer, int):
            return JSONResponse({"error": {"message": "refused"}}, status_code=answer)
        return JSONResponse({"choices": [{"index": 0, "message": {"role": "assistant", "content": answer}}]})

    async def _unload(self, request: Request) -> Response:
        assert (await request.json())["lora_name"] in self.parents
        return Response("unloaded")

    async def _load(self, request: Request) -> Response:
        body = await request.json()
        assert body["lora_path"] == f"/adapters/{body['lora_name']}"
        assert self.on_load is not None
        return Response(status_code=self.on_load(body["lora_name"]))

    def _may(self, request: Request) -> bool:
        return self.key is None or request.headers.get("Authorization") == f"Bearer {self.key}"


def _prompt(messages: list[dict[str, Any]]) -> Prompt:
    [message] = messages
    *images, text = message["content"]
    photos = [base64.b64decode(image["image_url"]["url"].partition(";base64,")[2]) for image in images]
    return Prompt(text["text"], photos[0] if photos else None)
