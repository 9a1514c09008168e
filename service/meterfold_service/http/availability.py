"""Whether ClickHouse answers, so that a request is refused at once instead of waiting for a server that is away."""

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


class Unavailable(Retryable):
    """ClickHouse does not answer at present."""

    code = "UNAVAILABLE"

    def __init__(self) -> None:
        super().__init__("ClickHouse does not answer at present; repeat the request")


class Availability:
    """`watch` runs in the event loop and asks in a thread of its own."""

    def __init__(self, ping: Callable[[], None], errors: Troubles) -> None:
        """`ping` raises MeterfoldError, after a second or two at the latest."""
        self._ping = ping
        self._report = errors.of("clickhouse")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="meterfold-http-ping")
        self.away = asyncio.Event()

    def check(self) -> None:
        """Raises Unavailable."""
        if self.away.is_set():
            raise Unavailable

    async def watch(self) -> None:
        """Until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                await loop.run_in_executor(self._thread, self._ping)
            except MeterfoldError as error:
                if not self.away.is_set():
                    _LOG.warning("not ready: %s", error)
                self._report(error if isinstance(error, Retryable) else Retryable(str(error)))
                self.away.set()
            else:
                self._report(None)
                self.away.clear()
            await asyncio.sleep(_AGAIN_SECONDS if self.away.is_set() else _EVERY_SECONDS)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
