"""Asks a model behind an OpenAI-compatible URL.

With the client of synthesis (synth/teacher.py): its retries, its limit of requests in flight, and its
journal, so that an answer that came is never asked for again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from flows.interrupts import graceful_interrupts
from schemas.config import TeacherSettings
from schemas.errors import AvarError, ConfigError, InterruptedRunError, TeacherError
from schemas.records import Image
from synth.concurrency import telling_error
from synth.dispatch import Dispatcher, Lane, StoppedError
from synth.journal import Journal
from synth.ledger import Ledger
from synth.requests import Answer, Request
from synth.teacher import Teacher
from synth.teachers import Connected, connect_teacher
from trainer.evaluate import Scored, score_answer
from trainer.messages import SYSTEM_PROMPT, render_question

STAGE = "evaluate"
JOURNAL_FILE = "journal.sqlite"
_SEED = 0
_OPTIONS = {"teacher.model": "--served-model", "teacher.api_key_env": "--api-key-env", "set --": "give --"}
_AHEAD = 4  # rows begun for one in flight: what waits holds its place, and no picture twice


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """How a server is asked."""

    url: str
    served_model: str | None = None
    api_key_env: str | None = None
    max_in_flight: int = 64
    temperature: float = 0.0
    max_new_tokens: int = 1024


class Asker:
    """Asks rows. Made by `open_asker`.

    Attributes:
        model: the name that the server knows it by.
    """

    def __init__(self, settings: ServerSettings, found: Connected) -> None:
        self.settings = settings
        self.model = found.model
        self._found = found

    async def ask_all(
        self, rows: Sequence[Mapping[str, Any]], journal: Path, keep: Callable[[Scored], object]
    ) -> list[TeacherError]:
        """Asks all rows and scores the answers.

        Args:
            keep: called with each scored answer as it comes; of a row that the server refuses for good, too.
        Returns: why rows have no answer this time; asking again may help.
        Raises:
            TeacherError: the server is gone or wrong.
            InterruptedRunError: somebody pressed Ctrl-C.
        """
        async with Dispatcher() as dispatcher:
            settings = self._found.settings
            lane = dispatcher.add(
                Lane(self._found.servers, outage_s=settings.outage_s, name=self._found.model)
            )
            with Journal(journal) as kept:
                teacher = Teacher(settings, lane, dispatcher, kept, Ledger())
                with graceful_interrupts(dispatcher.stop, lambda: _in_flight(dispatcher)):
                    unanswered = await self._ask_all(rows, teacher, keep)
            if dispatcher.stopped:
                raise InterruptedRunError("stopped; every answer is kept, and the same command goes on")
        return unanswered

    async def _ask_all(
        self, rows: Sequence[Mapping[str, Any]], teacher: Teacher, keep: Callable[[Scored], object]
    ) -> list[TeacherError]:
        unanswered: list[TeacherError] = []
        begun = asyncio.Semaphore(_AHEAD * self.settings.max_in_flight)

        async def ask(place: int, row: Mapping[str, Any]) -> None:
            async with begun:
                try:
                    keep(await self._ask(row, place, teacher))
                except StoppedError:
                    return
                except TeacherError as error:
                    if error.fatal:
                        raise
                    if error.transient:
                        unanswered.append(error)
                    else:
                        keep(
                            score_answer(row, "", finished=False, tokens=-1, error=f"{error.fault}: {error}")
                        )

        try:
            async with asyncio.TaskGroup() as group:
                for place, row in enumerate(rows):
                    group.create_task(ask(place, row))
        except BaseExceptionGroup as errors:
            raise telling_error(errors) from errors
        return unanswered

    async def _ask(self, row: Mapping[str, Any], place: int, teacher: Teacher) -> Scored:
        answer = await teacher.ask(self._request(row), place)
        # Off the loop: a check may wait for computer algebra.
        return await asyncio.to_thread(
            score_answer,
            row,
            _whole(answer),
            finished=answer.finish_reason == "stop",
            tokens=answer.completion_tokens,
        )

    def _request(self, row: Mapping[str, Any]) -> Request:
        """The row as `trainer.messages.to_messages` puts it: system prompt, images, question and choices."""
        images = [Image(bytes=image["bytes"], path=image["path"]) for image in row["images"]]
        return Request(
            stage=STAGE,
            model=self.model,
            system=row.get("system") or SYSTEM_PROMPT,
            content=(*images, render_question(row["question"], row["choices"])),
            temperature=self.settings.temperature,
            top_p=1.0,
            max_tokens=self.settings.max_new_tokens,
            seed=_SEED,
        )


@asynccontextmanager
async def open_asker(settings: ServerSettings) -> AsyncIterator[Asker]:
    """A client of the server that settings name.

    Raises:
        ConfigError: no URL, or a key is not in the environment.
        TeacherError: no server answers there, or it serves another model.
    """
    try:
        teacher = TeacherSettings(
            url=settings.url,
            model=settings.served_model,
            api_key_env=settings.api_key_env,
            max_in_flight=settings.max_in_flight,
        )
    except ValidationError as error:
        raise ConfigError(f"{settings.url}: {error.errors()[0]['msg']}") from error
    async with AsyncExitStack() as stack:
        try:
            found = await stack.enter_async_context(connect_teacher(teacher))
        except (TeacherError, ConfigError) as error:
            raise _reworded(error) from error
        yield Asker(settings, found)


def _whole(answer: Answer) -> str:
    """The generation with its thoughts, also where the server hands them out apart."""
    return f"<think>{answer.reasoning}</think>{answer.text}" if answer.reasoning else answer.text


def _in_flight(dispatcher: Dispatcher) -> int:
    return sum(server.in_flight for server in dispatcher.servers)


def _reworded(error: AvarError) -> AvarError:
    """A recipe's keys as this command's options."""
    text = str(error)
    for key, option in _OPTIONS.items():
        text = text.replace(key, option)
    return TeacherError(error.fault, text) if isinstance(error, TeacherError) else ConfigError(text)
