"""A teacher in front of a test's vLLM, with a journal, a ledger and a proxy that counts what is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from schemas.config import TeacherSettings
from schemas.records import Image
from synth.dispatch import Dispatcher, Lane
from synth.journal import Journal
from synth.ledger import Ledger
from synth.requests import Request
from synth.server import Server as Client
from synth.teacher import Teacher
from tests.vllm_server import Server


@dataclass(frozen=True)
class Asked:
    """A teacher with what it uses."""

    teacher: Teacher
    client: Client
    journal: Journal
    ledger: Ledger


@asynccontextmanager
async def open_teacher(server: Server, folder: Path, **settings: Any) -> AsyncIterator[Asked]:
    """A teacher for one server; its journal is in `folder`."""
    chosen = TeacherSettings.model_validate(server.settings() | settings)
    async with AsyncExitStack() as stack:
        journal = stack.enter_context(Journal(folder / "journal.sqlite"))
        client = await stack.enter_async_context(Client(chosen.urls[0], chosen))
        if chosen.api_key_env:
            await client.list_models()
        dispatcher = await stack.enter_async_context(Dispatcher())
        lane = dispatcher.add(Lane([client], outage_s=chosen.outage_s, name="tiny"))
        ledger = Ledger()
        yield Asked(Teacher(chosen, lane, dispatcher, journal, ledger), client, journal, ledger)


def short_request(*content: str | Image, **changes: Any) -> Request:
    """A question with a short answer, the same every time."""
    given: dict[str, Any] = {
        "stage": "describe",
        "model": "tiny",
        "content": content,
        "temperature": 0.0,
        "top_p": 1.0,
        "max_tokens": 8,
        "seed": 1,
    }
    return Request(**(given | changes))


def image_of(content: bytes) -> Image:
    """An image as a source hands it out."""
    return Image(bytes=content, path="x.png")


class CountingProxy:
    """Passes bytes to a server and back.

    Attributes:
        sent: bytes that clients sent.
    """

    def __init__(self, url: str) -> None:
        self.sent = 0
        self._host, self._port = urlsplit(url).hostname, urlsplit(url).port

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counted: bool
    ) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                self.sent += len(data) * counted
                writer.write(data)
                await writer.drain()
        writer.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection(self._host, self._port)
        await asyncio.gather(self._pass(reader, forth, counted=True), self._pass(back, writer, counted=False))

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """Yields the proxy's URL."""
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
