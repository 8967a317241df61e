"""A teacher: one model behind one or several servers, asked through the journal.

`Teacher.ask` answers from the journal where it can. Otherwise it waits for a server with room, asks, asks
again what may pass, and returns only when the answer is in the journal. A refusal that asking again cannot
mend is kept there as well, so that a later run does not ask for it either.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext

from schemas.config import TeacherSettings
from schemas.errors import TeacherError, TeacherFault
from synth.dispatch import Dispatcher, Lane, OutageError
from synth.journal import Journal
from synth.ledger import Ledger
from synth.replies import EngineDeadError
from synth.requests import Answer, Outcome, Request, decode_outcome, encode_outcome
from synth.server import Server

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.25, 20.0
_LOOK_AGAIN_S = 0.05


class Teacher:
    """Asks one model. Dispatcher, journal and ledger are shared with other teachers."""

    def __init__(
        self, settings: TeacherSettings, lane: Lane, dispatcher: Dispatcher, journal: Journal, ledger: Ledger
    ) -> None:
        self.settings = settings
        self.lane = lane
        self._dispatcher = dispatcher
        self._journal = journal
        self._ledger = ledger
        self._asked: dict[bytes, asyncio.Event] = {}
        self._suspects = asyncio.Lock()
        self._jitter = random.Random()

    def recall(self, request: Request) -> Answer | None:
        """The journal's answer, None where it has none.

        Raises: TeacherError: the journal holds a refusal.
        """
        return recall(self._journal, self._ledger, request)

    async def ask(
        self, request: Request, order: int = 0, on_wait: Callable[[], None] | None = None
    ) -> Answer:
        """The answer to a request, from the journal or from a server.

        Args:
            order: where several calls wait, the lowest goes first.
            on_wait: called once before a server is waited for, not where the journal answers.
        Raises:
            TeacherError: no answer within the attempts or the time allowed, or one that cannot be had.
            StoppedError: the run is being ended.
            ShardError: the journal cannot be written.
        """
        while (asked := self._asked.get(request.key)) is not None:
            await asked.wait()  # somebody asks the same; what comes is in the journal then
        if (answer := self.recall(request)) is not None:
            return answer
        if on_wait is not None:
            on_wait()
        self._asked[request.key] = asyncio.Event()
        try:
            return await self._ask_and_keep(request, order)
        finally:
            self._asked.pop(request.key).set()

    async def _ask_and_keep(self, request: Request, order: int) -> Answer:
        try:
            outcome: Outcome = await self._persist(request, order)
        except TeacherError as error:
            self._ledger.refused(request.stage, request.model, error.fault, reused=False)
            if not error.transient and not error.fatal:
                await self._keep(request, error)
            raise
        await self._keep(request, outcome)
        self._ledger.answered(request.stage, request.model, outcome, reused=False)
        return outcome

    async def _keep(self, request: Request, outcome: Outcome) -> None:
        await self._journal.put(
            request.key,
            stage=request.stage,
            model=request.model,
            request=request.reference,
            outcome=encode_outcome(outcome),
            fault=str(outcome.fault) if isinstance(outcome, TeacherError) else "",
        )

    async def _persist(self, request: Request, order: int) -> Answer:
        patience = _Patience(self.settings, self._jitter)
        deaths = 0
        while True:
            try:
                # One request may kill the engine each time: those that saw two deaths take turns, so that it
                # takes no other with it.
                async with self._suspects if deaths >= 2 else nullcontext():
                    return await self._attempt(request, order)
            except OutageError:
                raise
            except TeacherError as error:
                failure = error
            deaths += isinstance(failure, EngineDeadError)
            wait_s = patience.after(failure)  # raises where there is none left
            self._ledger.retried(request.stage, request.model, failure.fault)
            await self._dispatcher.rest(wait_s)

    async def _attempt(self, request: Request, order: int) -> Answer:
        server = await self._acquire(request, order)
        try:
            answer = await server.complete(request, order)
            server.pace.answered(
                time.monotonic(),
                seconds=answer.seconds,
                in_flight=server.in_flight,
                tokens=max(answer.completion_tokens, 0),
            )
            return answer
        except TeacherError as error:
            self._notice(server, error)  # before its place is given to the next call
            raise
        finally:
            self._dispatcher.release(server)

    async def _acquire(self, request: Request, order: int) -> Server:
        """A server with room: rather one that holds the request's images than one that is brought them."""
        while True:
            server = await self._dispatcher.acquire(self.lane, order)
            arrivals = self._arrivals(request, order)
            if server not in arrivals:
                return server
            other = next((one for one in self.lane.with_room() if one.holds(request)), None)
            if other is not None:
                other.in_flight += 1
            self._dispatcher.release(server)
            if other is not None:
                return other
            await self._first_of(arrivals.values(), request)

    def _arrivals(self, request: Request, order: int) -> dict[Server, asyncio.Event]:
        """The servers that another call is bringing an image of this request, and what happens then."""
        found = {server: server.image_on_its_way(request, order) for server in self.lane.servers}
        return {server: arrival for server, arrival in found.items() if arrival is not None}

    async def _first_of(self, arrivals: Iterable[asyncio.Event], request: Request) -> None:
        waits = [asyncio.ensure_future(arrival.wait()) for arrival in arrivals]
        # One that holds the images may have room before they arrive elsewhere.
        held = any(server.up and server.holds(request) for server in self.lane.servers)
        try:
            limit_s = _LOOK_AGAIN_S if held else None
            await asyncio.wait(waits, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _notice(self, server: Server, error: TeacherError) -> None:
        """What a failure says about the server."""
        if error.fault is TeacherFault.UNREACHABLE or isinstance(error, EngineDeadError):
            self._dispatcher.lose(server)
        elif error.fault is TeacherFault.OVERLOADED:
            server.pace.overloaded(time.monotonic())
            if error.retry_after_s:
                self._dispatcher.pause(server, min(error.retry_after_s, self.settings.retry_budget_s))


class _Patience:
    """How often and how long one answer is asked for again.

    Failures of the answer itself count against `max_attempts`. A server that says "too much" counts by time
    alone, since that says nothing about the row; one that is away is waited for by its lane.
    """

    def __init__(self, settings: TeacherSettings, jitter: random.Random) -> None:
        self._settings = settings
        self._jitter = jitter
        self._attempts = self._refusals = 0
        self._since: float | None = None

    def after(self, error: TeacherError) -> float:
        """Seconds to wait before the next attempt: exponential and jittered.

        Raises: TeacherError: asking again cannot help, or has been tried enough.
        """
        if error.fault is TeacherFault.UNREACHABLE:
            return 0.0
        if not error.transient:
            raise error
        now = time.monotonic()
        self._since = self._since or now
        if error.fault is TeacherFault.OVERLOADED:
            self._refusals += 1
        else:
            self._attempts += 1
        if self._attempts >= self._settings.max_attempts:
            raise _after(error, f"{self._attempts} attempts", self._attempts > 1)
        if now - self._since > self._settings.retry_budget_s:
            raise _after(error, f"{now - self._since:.0f} s of asking again", True)
        ceiling = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** (self._attempts + self._refusals))
        wait_s = max(error.retry_after_s or 0.0, self._jitter.uniform(ceiling / 2, ceiling))
        return min(wait_s, self._settings.retry_budget_s)


def _after(error: TeacherError, effort: str, tried: bool) -> TeacherError:
    return TeacherError(error.fault, f"{error} (after {effort})" if tried else str(error))


def recall(journal: Journal, ledger: Ledger, request: Request) -> Answer | None:
    """The journal's answer to a request, None where it has none.

    Raises: TeacherError: the journal holds a refusal.
    """
    stored = journal.find(request.key)
    if stored is None:
        return None
    outcome = decode_outcome(stored["outcome"])
    if isinstance(outcome, TeacherError):
        ledger.refused(request.stage, request.model, outcome.fault, reused=True)
        raise outcome
    ledger.answered(request.stage, request.model, outcome, reused=True)
    return outcome


def settle_model(settings: TeacherSettings, served: dict[str, list[str]]) -> str:
    """Which model is used, given what each server that answered serves.

    Raises: TeacherError: a server does not serve the recipe's model, or the choice is not clear.
    """
    wanted = settings.model
    if wanted is None:
        common = set.intersection(*map(set, served.values()))
        if len(common) == 1:
            [wanted] = common
    for url, names in served.items():
        if wanted not in names:
            problem = f"does not serve {wanted!r}" if wanted else "serves several models"
            raise TeacherError(
                TeacherFault.UNKNOWN_MODEL,
                f"the teacher at {url} {problem} (it serves {', '.join(names) or 'none'}); "
                "set teacher.model to one of these",
            )
    assert wanted is not None
    return wanted
