"""Live figures: one query a second for everybody who watches, and none where nobody does."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from meterfold_schemas.errors import MeterfoldError

if TYPE_CHECKING:
    from meterfold_service.status.operations import FoldTotals, Status

__all__ = ["Feed", "Sample"]

_EVERY_SECONDS: Final = 1.0
_LINGER_SECONDS: Final = 300.0
_KEPT: Final = 600
_RATE_SAMPLES: Final = 5

Run = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Sample:
    """`totals` None and `trouble` where ClickHouse did not answer. `rate`: events per second that were read lately."""

    number: int
    at: float
    totals: FoldTotals | None
    rate: float | None
    trouble: str | None = None


class Feed:
    """For the event loop. It polls while somebody watches, and for five minutes after."""

    def __init__(self, status: Status, run: Run, stopping: asyncio.Event) -> None:
        """`stopping`: the server waits for open answers; they end."""
        self._status = status
        self._run = run
        self._stopping = stopping
        self._samples: deque[Sample] = deque(maxlen=_KEPT)
        self._next = asyncio.Condition()
        self._watchers = 0
        self._left = time.monotonic()
        self._task: asyncio.Task[None] | None = None

    @property
    def recent(self) -> tuple[Sample, ...]:
        """Those of the last ten minutes, as far as somebody watched."""
        return tuple(self._samples)

    async def samples(self) -> AsyncIterator[Sample]:
        """Every new sample, from the newest on. A slow watcher misses some, and never holds up the others."""
        self._watchers += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._poll())
        seen = -1
        try:
            while not self._stopping.is_set():
                async with self._next:
                    while not self._samples or self._samples[-1].number <= seen:
                        await self._next.wait()
                    sample = self._samples[-1]
                seen = sample.number
                yield sample
        finally:
            self._watchers -= 1
            self._left = time.monotonic()

    async def _poll(self) -> None:
        number = self._samples[-1].number if self._samples else 0
        while self._watchers or time.monotonic() - self._left < _LINGER_SECONDS:
            number += 1
            sample = await self._sample(number)
            async with self._next:
                self._samples.append(sample)
                self._next.notify_all()
            await asyncio.sleep(_EVERY_SECONDS)

    async def _sample(self, number: int) -> Sample:
        try:
            totals: FoldTotals = await self._run(self._status.totals)
        except MeterfoldError as error:
            return Sample(number, time.time(), None, None, str(error))
        return Sample(number, totals.at.timestamp(), totals, self._rate(totals))

    def _rate(self, totals: FoldTotals) -> float | None:
        """Over some seconds: the fold flushes in steps."""
        before = [one for one in self._samples if one.totals is not None][-_RATE_SAMPLES:]
        if not before or before[0].totals is None:
            return None
        seconds = totals.at.timestamp() - before[0].at
        if seconds <= 0 or seconds > 10 * _RATE_SAMPLES:
            return None
        return max(0.0, (totals.events - before[0].totals.events) / seconds)
