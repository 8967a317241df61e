"""Streams rows through describe, reason, anchor and the evidence, independently of each other.

A row begins only when a server of the first stage has room that no row already begun wants, and calls that
wait are sent in the order of their rows. So drafts finish early, few rows are in memory at one time, and the
servers are never idle while there is work. The engine knows nothing of Prefect: flows/synthesize.py hands it
partitions.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

from schemas.config import Recipe, TeacherSettings
from schemas.records import Draft, Item, Problem, problem_of
from synth.admission import Admission
from synth.collection import rare_collections
from synth.concurrency import run_all, telling_error
from synth.dispatch import Dispatcher, Lane, StoppedError
from synth.evidence import gather_evidence
from synth.journal import Journal
from synth.ledger import Ledger
from synth.partitions import Partition, each, known_rows, read_all
from synth.reading import ReadingStoppedError
from synth.requests import Answer, Request
from synth.sampling import Tally, draw_samples
from synth.stages import draft_sample
from synth.teacher import Teacher, recall
from synth.teachers import Connected, connect_teachers

_JUDGES = 4  # threads that judge drafts: some wait for computer algebra
Progress = Callable[[Sequence[Draft]], None]
Accepts = Callable[[Draft], bool]
Claims = Callable[[Draft], Sequence[str]]


class WaitsError(Exception):
    """A row needs an answer that is not asked for this time and is not in the journal."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class UnfinishedError(Exception):
    """Some rows of a partition have not come to their end.

    Attributes:
        drafts: of the rows that have, in order.
        waiting: rows that wait for an answer not asked for this time, by its name.
        stopped: rows that were not begun or not finished because the run is being ended.
    """

    def __init__(self, drafts: list[Draft], waiting: Mapping[str, int], stopped: int) -> None:
        super().__init__(f"{stopped} rows stopped, {dict(waiting)} waiting")
        self.drafts = drafts
        self.waiting = dict(waiting)
        self.stopped = stopped


class Engine:
    """Drafts rows. Made by `open_engine`; several partitions may be drafted at once.

    Attributes:
        ledger: what was asked so far, and what it took.
        tally: accepted drafts in source order, and the problem that completes `samples.until`.
    """

    def __init__(
        self,
        recipe: Recipe,
        journal: Journal,
        ledger: Ledger,
        teachers: Mapping[str, Teacher],
        dispatcher: Dispatcher,
        models: Mapping[str, tuple[str, str]],
        accepts: Accepts | None,
        claims: Claims,
    ) -> None:
        self.recipe = recipe
        self.journal = journal
        self.ledger = ledger
        self.teachers = teachers
        self.dispatcher = dispatcher
        self.models = models
        self.claims = claims
        self.tally = Tally(recipe.samples.until)
        self._accepts = accepts
        self._judge = ThreadPoolExecutor(_JUDGES, thread_name_prefix="judge")
        self.admission = Admission(dispatcher, self._first_lane())
        self._running: dict[int, asyncio.Task[list[Draft] | None]] = {}
        dispatcher.on_room = self.admission.grant

    def _first_lane(self) -> Lane | None:
        """The lane that a row's first call goes to, as far as anything is asked."""
        return next((teacher.lane for teacher in self.teachers.values()), None)

    @property
    def in_flight(self) -> int:
        """Calls that servers are working on."""
        return sum(server.in_flight for server in self.dispatcher.servers)

    @property
    def level(self) -> int:
        """Calls that may be in flight now."""
        return sum(server.pace.limit for server in self.dispatcher.servers if server.up)

    @property
    def away(self) -> list[str]:
        """URLs of servers that do not answer now."""
        return sorted(server.url for server in self.dispatcher.servers if not server.up)

    @property
    def stopped(self) -> bool:
        """True once nothing more is begun."""
        return self.dispatcher.stopped

    def stop(self) -> None:
        """Lets calls in flight come to their end, and begins nothing more."""
        self.dispatcher.stop()
        self.admission.stop()

    async def draft(self, rows: Sequence[Item] | Partition, progress: Progress | None = None) -> list[Draft]:
        """Drafts of a partition's rows, in their order; rows that failed at the source pass through.

        Args:
            rows: those of a `Partition` are read as they are begun.
            progress: called with each problem's drafts as they are finished, in the order of finishing.
        Raises:
            TeacherError: the teachers are gone or wrong; every other failure is a row's own.
            UnfinishedError: rows wait, or the run was stopped; a partition may have rows that were not read.
        """
        waiting: Counter[str] = Counter()
        results: dict[int, list[Draft]] = {}

        async def finish(item: Problem, swap: Problem | None) -> list[Draft] | None:
            try:
                results[item.index] = await self._finish(item, swap)
            except WaitsError as missing:
                waiting[missing.name] += 1
                return
            except StoppedError:
                return
            if progress:
                progress(results[item.index])

        partners: dict[int, Problem] = {}
        if self.recipe.evidence.swap:
            with suppress(ReadingStoppedError):
                await read_all(rows)
            partners = _swap_partners(known_rows(rows))
        try:
            async with asyncio.TaskGroup() as group:
                async for item in _until_stopped(each(rows)):
                    if isinstance(item, Draft):
                        results[item.problem.index] = [item]
                        self._count(item.problem.index, 0)
                        if progress:
                            progress([item])
                    elif self.tally.beyond(item.index) or not await self.admission.enter(item.index):
                        break
                    elif self.tally.beyond(item.index):  # cut while it waited
                        self.admission.started()
                        self.admission.leave()
                        break
                    else:
                        task = group.create_task(finish(item, partners.get(item.index)))
                        self._running[item.index] = task
                        task.add_done_callback(partial(self._ended, item.index))
        except BaseExceptionGroup as errors:
            raise telling_error(errors) from errors
        drafts = await self._collect(known_rows(rows), results, waiting)
        if isinstance(rows, Partition) and not rows.is_whole and self.tally.cut is None:
            raise UnfinishedError(drafts, {}, 0)  # what has not been read is nobody's yet
        return drafts

    def _ended(self, index: int, _: object) -> None:
        """A row's task is over, one that was cancelled before its first step included."""
        self._running.pop(index, None)
        self.admission.leave()

    async def _collect(
        self, items: Sequence[Item], results: Mapping[int, list[Draft]], waiting: Counter[str]
    ) -> list[Draft]:
        indices = [problem_of(item).index for item in items]
        missing = [index for index in indices if index not in results and not self.tally.beyond(index)]
        kept = [draft for index in indices for draft in results.get(index, ())]
        if missing:
            self.tally.abandon()
            raise UnfinishedError(kept, waiting, len(missing) - waiting.total())
        if indices and not await self.tally.settled(indices[-1]):
            raise UnfinishedError(kept, {}, 0)  # whether it is beyond the cut, an earlier partition would say
        return [draft for draft in kept if not self.tally.beyond(draft.problem.index)]

    async def _finish(self, problem: Problem, swap: Problem | None) -> list[Draft]:
        row = _Row(self, problem.index)
        verdicts: dict[int, bool] = {}

        async def accepts(draft: Draft) -> bool:
            verdicts[draft.sample_index] = await self._judged(draft)
            return verdicts[draft.sample_index]

        samples = self.recipe.samples
        try:
            drafts = await draw_samples(samples, lambda index: draft_sample(problem, index, row), accepts)
            if samples.until is not None:
                for draft in drafts:
                    if draft.sample_index not in verdicts:
                        await accepts(draft)
            drafts = await self._with_evidence(drafts, row, swap)
        finally:
            row.starts()
        self._count(problem.index, sum(verdicts.get(draft.sample_index, False) for draft in drafts))
        return drafts

    async def _with_evidence(self, drafts: list[Draft], row: _Row, swap: Problem | None) -> list[Draft]:
        if not self.recipe.evidence.asked:
            return drafts
        return await run_all(gather_evidence(draft, row, swap=swap, claims=self.claims) for draft in drafts)

    async def _judged(self, draft: Draft) -> bool:
        """Whether a draft passes the filters, which may take long and run in a thread."""
        if self._accepts is None:
            raise ValueError("samples.accept and samples.until need `accepts`")
        return await asyncio.get_running_loop().run_in_executor(self._judge, self._accepts, draft)

    def _count(self, index: int, accepted: int) -> None:
        self.tally.done(index, accepted)
        if self.tally.cut is not None:
            self.admission.refuse_beyond(self.tally.cut)
            for other, task in list(self._running.items()):
                if self.tally.beyond(other):
                    task.cancel()

    async def count_drafts(self, indices: Sequence[int], drafts: Iterable[Draft]) -> None:
        """Counts the drafts of a partition that was finished before, towards `samples.until`."""
        if self.recipe.samples.until is None:
            return
        accepted: Counter[int] = Counter()
        for draft in drafts:
            accepted[draft.problem.index] += await self._judged(draft)
        for index in indices:
            self._count(index, accepted[index])


class _Row:
    """One problem on its way: puts its questions to the teachers."""

    def __init__(self, engine: Engine, index: int) -> None:
        self.recipe = engine.recipe
        self._engine = engine
        self._index = index
        self._starting = True

    def starts(self) -> None:
        """Its first call waits for a server, or it has ended without any."""
        if self._starting:
            self._starting = False
            self._engine.admission.started()

    def model(self, name: str) -> tuple[str, str]:
        """The model that answers a question, and its revision.

        Raises: WaitsError: it is not asked this time, and nobody knows who answered it before.
        """
        model = self._engine.models.get(name)
        if model is None:
            raise WaitsError(name)
        return model

    async def ask(self, name: str, request: Request) -> Answer:
        """Raises: TeacherError, StoppedError, WaitsError: there is no answer."""
        engine = self._engine
        if name in engine.teachers:
            return await engine.teachers[name].ask(request, self._index, self.starts)
        answer = recall(engine.journal, engine.ledger, request)
        if answer is None:
            raise WaitsError(name)
        return answer


async def _until_stopped(rows: AsyncIterator[Item]) -> AsyncIterator[Item]:
    """The rows as far as they are read."""
    with suppress(ReadingStoppedError):
        async for item in rows:
            yield item


def _swap_partners(items: Sequence[Item]) -> dict[int, Problem]:
    """Another problem with other images for each problem: the one before it in the partition, or the next."""
    problems = [item for item in items if isinstance(item, Problem)]
    partners: dict[int, Problem] = {}
    for position, problem in enumerate(problems):
        own = {image.sha256 for image in problem.images}
        for other in (*reversed(problems[:position]), *problems[position + 1 :]):
            if own.isdisjoint(image.sha256 for image in other.images):
                partners[problem.index] = other
                break
    return partners


@asynccontextmanager
async def open_engine(
    recipe: Recipe,
    journal: Journal,
    *,
    asked: Collection[str] | None = None,
    models: Mapping[str, str] | None = None,
    accepts: Accepts | None = None,
    claims: Claims | None = None,
) -> AsyncIterator[Engine]:
    """An engine with its teachers connected.

    Args:
        asked: questions that are asked this time (`Recipe.questions`), all by default; the answers to the
            others must be in the journal.
        models: who answers the questions that are not asked, where the recipe does not say.
        accepts: whether a draft passes the filters, for `samples.accept` and `samples.until`.
        claims: the claims of a trace, for `evidence.judge`.
    Raises: TeacherError: a teacher is down or does not serve the model that the recipe names.
    """
    async with AsyncExitStack() as stack:
        connected = await stack.enter_async_context(connect_teachers(recipe, asked))
        dispatcher = await stack.enter_async_context(Dispatcher())
        named = {name: settings.model for name, settings in recipe.teachers.items() if settings.model}
        found = {name: teacher.model for name, teacher in connected.items()}
        known = {
            name: (model, recipe.teachers[name].revision)
            for name, model in {**(models or {}), **named, **found}.items()
            if name in recipe.teachers
        }
        stack.enter_context(rare_collections())
        ledger = Ledger()
        teachers = _make_teachers(connected, dispatcher, journal, ledger)
        yield Engine(recipe, journal, ledger, teachers, dispatcher, known, accepts, claims or _no_claims)


def _make_teachers(
    connected: Mapping[str, Connected], dispatcher: Dispatcher, journal: Journal, ledger: Ledger
) -> dict[str, Teacher]:
    made: dict[TeacherSettings, Teacher] = {}
    for found in connected.values():
        if found.settings not in made:
            lane = Lane(found.servers, outage_s=found.settings.outage_s, name=found.model)
            made[found.settings] = Teacher(found.settings, dispatcher.add(lane), dispatcher, journal, ledger)
    return {name: made[found.settings] for name, found in connected.items()}


def _no_claims(draft: Draft) -> Sequence[str]:
    raise ValueError("evidence.judge needs `claims`")
