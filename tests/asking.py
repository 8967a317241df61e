"""One teacher to ask, without a run around it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from schemas.config import TeacherSettings, parse_recipe
from schemas.records import Image
from synth.dispatch import Dispatcher, Lane
from synth.journal import Journal
from synth.ledger import Ledger
from synth.requests import Answer, Request
from synth.server import Server
from synth.teacher import Teacher
from synth.teachers import connect_teachers


@dataclass(frozen=True)
class Asking:
    """A teacher and what it is made of."""

    teacher: Teacher
    model: str
    servers: tuple[Server, ...]
    dispatcher: Dispatcher
    journal: Journal
    ledger: Ledger

    async def ask(self, *content: str | Image, order: int = 0, **fields: Any) -> Answer:
        """The answer to a user's message; `fields` are those of a `Request`."""
        return await self.teacher.ask(make_request(self.model, *content, **fields), order)


def make_request(model: str, *content: str | Image, **fields: Any) -> Request:
    """A request with small defaults."""
    given = {"stage": "describe", "temperature": 0.5, "top_p": 0.9, "max_tokens": 9, "seed": 3} | fields
    return Request(model=model, content=content or ("hello",), **given)


@asynccontextmanager
async def asking(settings: TeacherSettings, journal: Path | None = None) -> AsyncIterator[Asking]:
    """Connects a teacher, with a journal in `journal` or in a folder that is thrown away."""
    recipe = parse_recipe({"name": "t", "source": {"kind": "scenes"}}, where="t")
    recipe = recipe.model_copy(update={"teacher": settings})
    async with AsyncExitStack() as stack:
        path = journal or Path(stack.enter_context(TemporaryDirectory())) / "journal.sqlite"
        kept = stack.enter_context(Journal(path))
        connected = (await stack.enter_async_context(connect_teachers(recipe, ["describe"])))["describe"]
        dispatcher = await stack.enter_async_context(Dispatcher())
        lane = dispatcher.add(Lane(connected.servers, outage_s=settings.outage_s, name=connected.model))
        ledger = Ledger()
        teacher = Teacher(settings, lane, dispatcher, kept, ledger)
        yield Asking(teacher, connected.model, connected.servers, dispatcher, kept, ledger)
