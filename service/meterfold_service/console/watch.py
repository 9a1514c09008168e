"""One look at the installation for everybody who watches, however many they are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from meterfold_service.status.operations import Status
    from meterfold_service.status.report import StatusReport

__all__ = ["Watch"]

_FRESH_SECONDS: Final = 4.0

Run = Callable[..., Awaitable[Any]]


class Watch:
    """For the event loop."""

    def __init__(self, status: Status, run: Run, clock: Callable[[], float] = time.monotonic) -> None:
        self._status = status
        self._run = run
        self._clock = clock
        self._lock = asyncio.Lock()
        self._last: tuple[StatusReport, float] | None = None

    async def report(self) -> StatusReport:
        """As of 4 seconds ago at most. Raises Retryable or Fatal."""
        async with self._lock:
            if self._last is None or self._clock() - self._last[1] > _FRESH_SECONDS:
                report: StatusReport = await self._run(self._status.look)
                self._last = report, self._clock()
            return self._last[0]
