"""Whether ClickHouse answers, so that a request is refused at once instead of waiting for a server that is away.

A server is away if it accepts no connection, refuses the ping, or takes ten seconds to answer it. One that only answers
late is slow: requests go on and wait for their queries, and `/readyz` and the console say so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from meterfold_processor.backoff import Troubles
from meterfold_schemas.errors import MeterfoldError, Retryable

__all__ = ["Availability", "Unavailable"]

_LOG = logging.getLogger("meterfold.http")

_EVERY_SECONDS: Final = 1.0
_AGAIN_SECONDS: Final = 0.5
SLOW_SECONDS: Final = 1.0
"""A ping that takes longer is late."""


class Unavailable(Retryable):
    """ClickHouse does not answer at present."""

    code = "UNAVAILABLE"

    def __init__(self) -> None:
        super().__init__("ClickHouse does not answer at present; repeat the request")


class Availability:
    """`watch` runs in the event loop and asks in threads of its own."""

    def __init__(
        self,
        ping: Callable[[], None],
        reach: Callable[[], None],
        errors: Troubles,
        slow_seconds: float = SLOW_SECONDS,
    ) -> None:
        """`ping` asks for an answer, for ten seconds at most; `reach` opens a connection, for one second at most. Both
        raise MeterfoldError."""
        self._ping = ping
        self._reach = reach
        self._slow_seconds = slow_seconds
        self._report = errors.of("clickhouse")
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="meterfold-http-ping")
        self.away = asyncio.Event()
        self.is_slow = False
        """The last ping was answered late, or is late now."""

    def check(self) -> None:
        """Raises Unavailable."""
        if self.away.is_set():
            raise Unavailable

    async def watch(self) -> None:
        """Until it is cancelled."""
        while True:
            asked = asyncio.get_running_loop().run_in_executor(self._threads, self._ping)
            try:
                await self._answered(asked)
            except MeterfoldError as error:
                if not self.away.is_set():
                    _LOG.warning("not ready: %s", error)
                self._report(error if isinstance(error, Retryable) else Retryable(str(error)))
                self.away.set()
                await asyncio.gather(asked, return_exceptions=True)  # one ping at a time
            else:
                self._report(None)
                self.away.clear()
            await asyncio.sleep(_AGAIN_SECONDS if self.away.is_set() else _EVERY_SECONDS)

    async def _answered(self, asked: asyncio.Future[None]) -> None:
        """Raises MeterfoldError where the server is away."""
        is_late = not (await asyncio.wait({asked}, timeout=self._slow_seconds))[0]
        if is_late:
            if not self.is_slow:
                _LOG.warning("ClickHouse has not answered a ping for %g s; requests wait for it", self._slow_seconds)
            self.is_slow = True
            await asyncio.get_running_loop().run_in_executor(self._threads, self._reach)
        await asked
        self.is_slow = is_late

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
