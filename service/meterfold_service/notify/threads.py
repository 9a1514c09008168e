"""Blocking calls beside an event loop, in daemon threads.

Not a ThreadPoolExecutor: an interpreter that ends waits for its threads, so one mail server that does not answer would
hold a stopped notifier.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import Any, TypeVar

__all__ = ["DaemonThreads"]

T = TypeVar("T")


class DaemonThreads:
    """At most `limit` calls at the same time; more wait for their turn. For one event loop."""

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._turns = asyncio.Semaphore(limit)

    async def run(self, call: Callable[[], T]) -> T:
        """The answer of `call`, or what it raised. A call whose caller is cancelled keeps its turn until it ends."""
        await self._turns.acquire()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def finish(result: T | None, error: BaseException | None) -> None:
            self._turns.release()
            if answer.done():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(result)  # type: ignore[arg-type]

        def body() -> None:
            result: Any = None
            error: BaseException | None = None
            try:
                result = call()
            except BaseException as raised:
                error = raised
            with suppress(RuntimeError):  # the loop is closed, and with it whoever waited
                loop.call_soon_threadsafe(finish, result, error)

        Thread(target=body, name=self._name, daemon=True).start()
        return await answer
