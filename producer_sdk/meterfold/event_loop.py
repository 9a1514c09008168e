"""The event loop that an AsyncMeter belongs to, and how tasks there wait for what happens in the SDK's threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from meterfold.delivery import Delivery, DeliveryCallback
from meterfold.errors import WrongEventLoop
from meterfold.forks import renew_after_fork
from meterfold.log import logger

__all__ = ["EventLoop"]


class EventLoop:
    """One event loop, bound by the first `enter`. Only `wake`, `call` and `deliver` may be called by other threads."""

    def __init__(self) -> None:
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: set[asyncio.Future[None]] = set()
        self._waking = False
        #: Held by the one task that waits for room; others queue for it, so events keep their order.
        self.room = asyncio.Lock()

    def enter(self) -> None:
        """Bind to the running event loop. Raises WrongEventLoop if another one is bound and not closed."""
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            raise WrongEventLoop("AsyncMeter needs a running asyncio event loop; use Meter without one") from None
        if running is self._loop:
            return
        if self._loop is not None:
            if not self._loop.is_closed():
                raise WrongEventLoop(
                    "this AsyncMeter belongs to another event loop; make one AsyncMeter for each event loop, or share "
                    "one Meter between threads"
                )
            self.after_fork()  # no task waits in a closed loop
        self._loop = running

    def wake(self) -> None:
        """Let every task in `until` look again."""
        if self._waiting and not self._waking:
            self._waking = True
            if not self.call(self._wake):
                self._waking = False

    def call(self, function: Callable[..., None], *arguments: Any) -> bool:
        """Call it in the loop, soon; False without an open loop."""
        try:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(function, *arguments)
                return True
        except RuntimeError:  # the loop is closed
            pass
        return False

    def deliver(self, on_delivery: DeliveryCallback) -> DeliveryCallback:
        """The callback, called in the loop, or in the thread of the report when the loop is closed already."""

        def called(report: Delivery) -> None:
            try:
                on_delivery(report)
            except Exception:  # the application's own
                logger.exception("the delivery callback raised for event %s", report.event_id)

        def posted(report: Delivery) -> None:
            if not self.call(called, report):
                called(report)

        return posted

    async def until(self, condition: Callable[[], bool], seconds_left: Callable[[], float | None]) -> bool:
        """Wait for `condition`, which is evaluated again after each `wake`; False once no seconds are left (None: no
        limit).
        """
        loop = asyncio.get_running_loop()
        while True:
            # Registered before the condition is looked at: a wake between the two is not missed.
            woken: asyncio.Future[None] = loop.create_future()
            self._waiting.add(woken)
            try:
                if condition():
                    return True
                left = seconds_left()
                if left is not None and left <= 0:
                    return False
                await asyncio.wait((woken,), timeout=left)
            finally:
                self._waiting.discard(woken)

    def _wake(self) -> None:
        self._waking = False
        for woken in self._waiting:
            if not woken.done():
                woken.set_result(None)
