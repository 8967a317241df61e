"""Which images a vLLM server has been given: each is sent to it once, and named by its `uuid` afterwards."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_MOST = 4096  # names that are remembered; vLLM forgets by size, sooner or later


@dataclass(slots=True)
class _Sending:
    order: int
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class HeldImages:
    """The images that one server holds, and those on their way to it. An image is named by its SHA-256."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, None] = OrderedDict()
        self._sending: dict[str, _Sending] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._held

    def add(self, names: Iterable[str]) -> None:
        """The server has answered a request with these images."""
        for name in names:
            self._held[name] = None
            self._held.move_to_end(name)
            if len(self._held) > _MOST:
                self._held.popitem(last=False)

    def drop(self, names: Iterable[str]) -> None:
        """The server may hold these no longer."""
        for name in names:
            self._held.pop(name, None)

    def clear(self) -> None:
        """The server was started anew."""
        self._held.clear()

    @contextmanager
    def sending(self, names: Iterable[str], order: int) -> Iterator[None]:
        """While a row's call brings these images to the server."""
        begun = {name: _Sending(order) for name in names if name not in self._sending}
        self._sending |= begun
        try:
            yield
        finally:
            for name, sending in begun.items():
                if self._sending.get(name) is sending:
                    del self._sending[name]
                sending.ended.set()

    def abandon(self) -> None:
        """The server is away: nobody waits for an image to come to it."""
        for sending in self._sending.values():
            sending.ended.set()
        self._sending.clear()

    def arrival(self, names: Iterable[str], order: int, *, any_row: bool) -> asyncio.Event | None:
        """What to wait for before a row's call names these images, where another call is bringing one.

        Args:
            any_row: whether another row's call counts as well.
        """
        for name in names:
            sending = self._sending.get(name)
            if sending is not None and name not in self._held and (any_row or sending.order == order):
                return sending.ended
        return None
