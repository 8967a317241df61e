"""A scripted server for the faults that a real one shows too rarely to test."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web


def completion(text: str | None = "fine", finish_reason: str = "stop", **changes: Any) -> dict[str, Any]:
    """A chat completion as vLLM writes it."""
    return {
        "id": "x",
        "object": "chat.completion",
        "model": "stub",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    } | changes


class StubTeacher:
    """Answers `/v1/chat/completions` by the script, then with the last entry for ever.

    An entry is a (status, body, headers) triple, one of "reset", "truncate", "hang", or an async function
    that is given the request and returns an entry.
    """

    def __init__(
        self, script: list[Any], models: tuple[str, ...] = ("stub",), owner: str = "somebody"
    ) -> None:
        self.script: list[Any] = script
        self.models = models
        self.owner = owner
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.in_flight = self.most_in_flight = 0

    async def _models(self, request: web.Request) -> web.Response:
        cards = [{"id": model, "owned_by": self.owner} for model in self.models]
        return web.json_response({"object": "list", "data": cards})

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        entry = self.script[min(len(self.requests), len(self.script) - 1)]
        self.requests.append(await request.json())
        self.headers.append(dict(request.headers))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(0.01)
            return await self._answer(request, entry)
        finally:
            self.in_flight -= 1

    async def _answer(self, request: web.Request, entry: Any) -> web.StreamResponse:
        if inspect.iscoroutinefunction(entry):
            entry = await entry(await request.json())
        if isinstance(entry, tuple):
            return _plain_answer(*entry)
        if entry == "hang":
            await asyncio.sleep(30)
        if entry == "reset":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if entry == "truncate":
            response = web.StreamResponse(headers={"Content-Length": "1000"})
            await response.prepare(request)
            await response.write(b'{"choices": [')
            assert request.transport is not None
            request.transport.close()
            return response
        return web.Response(status=500)

    @asynccontextmanager
    async def serve(self, port: int = 0) -> AsyncIterator[str]:
        """Yields the base URL.

        Args:
            port: a free one by default.
        """
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._complete)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


def _plain_answer(status: int, body: Any, headers: dict[str, str]) -> web.Response:
    if isinstance(body, bytes):
        return web.Response(status=status, body=body, headers=headers)
    return web.json_response(body, status=status, headers=headers)


def ok(
    text: str | None = "fine", finish_reason: str = "stop", **changes: Any
) -> tuple[int, Any, dict[str, str]]:
    """A good answer."""
    return 200, completion(text, finish_reason, **changes), {}


def refusal(status: int, message: object = "no", **headers: str) -> tuple[int, Any, dict[str, str]]:
    """An error as vLLM writes it."""
    error = {"message": message, "type": "Error", "param": None, "code": status}
    return status, {"error": error}, headers
