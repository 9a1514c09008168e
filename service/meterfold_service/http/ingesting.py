"""Taking the events of a request: large bodies in a thread, and then the delivery.

The threads are not those of queries: events are taken while ClickHouse is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

from meterfold_service.http.deliveries import Deliveries

__all__ = ["QUICK_BYTES", "Ingesting"]

P = ParamSpec("P")
R = TypeVar("R")

QUICK_BYTES: Final = 64 * 1024
"""A larger body is read in a thread, so that other requests are answered meanwhile."""
_THREADS: Final = 8


class Ingesting:
    """Of one process, and of the event loop that uses it first."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="meterfold-http-events")
        self._deliveries: Deliveries | None = None

    async def run(self, operation: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call it in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: operation(*args, **kwargs))

    async def taken(self, begin: Callable[[Callable[[], None]], R], *, in_thread: bool) -> R:
        """What `begin` returns, once each event has its report. `begin` gets what ends the wait; where it raises,
        nothing was taken. `in_thread`: it takes long, or waits."""
        if self._deliveries is None:
            self._deliveries = Deliveries(asyncio.get_running_loop())
        waiting, on_end = self._deliveries.waiter()
        found = await self.run(begin, on_end) if in_thread else begin(on_end)
        await waiting
        return found

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
