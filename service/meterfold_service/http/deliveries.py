"""From the threads of the SDK to the requests that wait in the event loop: one wake-up for all that ended meanwhile."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress

__all__ = ["Deliveries"]


class Deliveries:
    """Of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ended: deque[asyncio.Future[None]] = deque()
        self._waking = False

    def waiter(self) -> tuple[asyncio.Future[None], Callable[[], None]]:
        """What a request awaits, and what ends that from any thread."""
        waiting: asyncio.Future[None] = self._loop.create_future()

        def end() -> None:
            self._ended.append(waiting)
            if not self._waking:
                self._waking = True
                with suppress(RuntimeError):  # the loop is closed, and no request waits any more
                    self._loop.call_soon_threadsafe(self._wake)

        return waiting, end

    def _wake(self) -> None:
        # First: what ends from here on wakes again.
        self._waking = False
        while self._ended:
            waiting = self._ended.popleft()
            if not waiting.done():
                waiting.set_result(None)
