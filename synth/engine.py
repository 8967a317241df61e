"""Streams the rows of a partition through the stages, independently of each other, under one budget.

The engine knows nothing of Prefect: flows/synthesize.py hands it partitions.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from schemas.config import Recipe, TeacherSettings
from schemas.records import Draft, Problem, Stage
from synth.stages import Stager, draft_problem
from synth.teacher import Teacher

Progress = Callable[[Draft], None]


@asynccontextmanager
async def open_teachers(recipe: Recipe) -> AsyncIterator[Stager]:
    """The stages of a recipe with their teachers connected; stages with equal settings share one client.

    Raises: TeacherError: a teacher is down or does not serve the model that the recipe names.
    """
    async with AsyncExitStack() as stack:
        clients: dict[TeacherSettings, Teacher] = {}
        for settings in recipe.teachers.values():
            if settings not in clients:
                clients[settings] = await stack.enter_async_context(Teacher(settings))
                await clients[settings].resolve_model()
        teachers = {Stage(stage): clients[settings] for stage, settings in recipe.teachers.items()}
        yield Stager.of(recipe, teachers)


async def draft_partition(
    items: Sequence[Problem | Draft], stager: Stager, progress: Progress | None = None
) -> list[Draft]:
    """Drafts for a partition's rows, in the order of `items`; rows that failed at the source pass through.

    Args:
        progress: called with each draft as it is finished, in the order of finishing.
    Raises: TeacherError: the teacher is gone; every other failure is a row's own.
    """

    async def finish(item: Problem | Draft) -> Draft:
        draft = item if isinstance(item, Draft) else await draft_problem(item, stager)
        if progress:
            progress(draft)
        return draft

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(finish(item)) for item in items]
    except ExceptionGroup as errors:
        # The first one ended the others; what it says is what a person can mend.
        raise errors.exceptions[0] from errors
    return [task.result() for task in tasks]
