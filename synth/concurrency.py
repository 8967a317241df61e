"""Several things at once, and one error where there were several."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from schemas.errors import AvarError

T = TypeVar("T")


async def run_all(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Runs coroutines together until all have come to their end. Returns: their results in order.

    Raises: the error of one of them, after the others' end, so that no answer in flight is thrown away;
        where there are several, one that a person can mend.
    """
    coroutines = list(work)
    if len(coroutines) == 1:
        return [await coroutines[0]]
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    await asyncio.gather(*tasks, return_exceptions=True)
    if any(task.cancelled() for task in tasks):
        raise asyncio.CancelledError
    errors = [error for task in tasks if (error := task.exception()) is not None]
    if errors:
        raise telling_error(BaseExceptionGroup("several", errors))
    return [task.result() for task in tasks]


def telling_error(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to report out of a group: the first that a person can mend, else the first."""
    return next((error for error in errors.exceptions if isinstance(error, AvarError)), errors.exceptions[0])
