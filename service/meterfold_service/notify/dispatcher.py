"""Sends what is due, until it is stopped: many deliveries at a time, but few to one target.

So a slow target delays no other. What is due is asked of the store again and again: nothing waits in memory.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from threading import Event
from typing import Final, TypeVar

from meterfold_processor.backoff import Backoff
from meterfold_schemas.endpoint_changes import EndpointChanged, EndpointState
from meterfold_schemas.errors import Retryable
from meterfold_service.notify.addresses import shown
from meterfold_service.notify.delivering import Deliverer
from meterfold_service.notify.delivery_spans import UNTRACED, DeliverySpans
from meterfold_service.notify.outcomes import Sender
from meterfold_service.notify.status import NotifyStatus
from meterfold_service.notify.store import Endpoints, Store
from meterfold_service.notify.threads import DaemonThreads
from meterfold_sink.notification_tries import EndpointRow, TryRow
from meterfold_sink.notifications import KEPT, DeliveryKey, DueDelivery, Failures

__all__ = ["Dispatcher"]

_LOG = logging.getLogger("meterfold.notify")

PER_TARGET: Final = 4
AT_ONCE: Final = 1_000
_ASKED: Final = 500
_LOOK_SECONDS: Final = 1.0
_COUNT_SECONDS: Final = 15.0
_GRACE_SECONDS: Final = 5.0

T = TypeVar("T")


class Dispatcher:
    """`run` blocks its thread. `publish` writes an event to endpoint.changed and returns when it lasts."""

    def __init__(
        self,
        store: Store,
        senders: Mapping[str, Sender],
        publish: Callable[[EndpointChanged], None],
        owned: Callable[[], frozenset[tuple[str, int]]],
        disable_after: timedelta,
        status: NotifyStatus,
        *,
        spans: DeliverySpans = UNTRACED,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        look_seconds: float = _LOOK_SECONDS,
    ) -> None:
        self._store = store
        self._senders = senders
        self._publish = publish
        self._owned = owned
        self._status = status
        self._clock = clock
        self._look_seconds = look_seconds
        self._deliverer = Deliverer(senders, self, disable_after, random.random, clock, spans)
        self._threads = DaemonThreads("meterfold-notify-store", 1)
        self._publishing = DaemonThreads("meterfold-notify-publish", 1)
        self._tasks: dict[DeliveryKey, asyncio.Task[None]] = {}
        self._rows: list[tuple[TryRow, asyncio.Future[None]]] = []
        self._endpoints = Endpoints({})
        self._failure: BaseException | None = None

    def run(self, stop: Event) -> None:
        """Send until `stop` is set. Raises Fatal."""
        asyncio.run(self._run(stop))

    def wake(self) -> None:
        """Look at once for what is due; from any thread."""
        loop, waker = self._loop, self._waker
        if loop is not None and waker is not None and not loop.is_closed():
            loop.call_soon_threadsafe(waker.set)

    _loop: asyncio.AbstractEventLoop | None = None
    _waker: asyncio.Event | None = None

    async def _run(self, stop: Event) -> None:
        self._loop, self._waker = asyncio.get_running_loop(), asyncio.Event()
        self._more = asyncio.Event()
        writing = asyncio.create_task(self._write_rows())
        counted_at = 0.0
        try:
            while not stop.is_set():
                if self._failure is not None:
                    raise self._failure
                self._waker.clear()
                found = await self._persist("deliveries", self._find, stop)
                for delivery in found or ():
                    self._start(delivery)
                if self._loop.time() - counted_at >= _COUNT_SECONDS:
                    counted_at = self._loop.time()
                    await self._persist("deliveries", self._count, stop)
                await self._wait(stop)
        finally:
            if self._tasks:
                await asyncio.wait(self._tasks.values(), timeout=_GRACE_SECONDS)
            for task in self._tasks.values():
                task.cancel()
            writing.cancel()
            for sender in self._senders.values():
                await sender.close()

    # Of Journal.

    async def write(self, row: TryRow) -> None:
        """Rows of all tries that wait at the same time are one insert."""
        done = asyncio.get_running_loop().create_future()
        self._rows.append((row, done))
        self._more.set()
        await done

    async def failures(self, endpoint: str) -> Failures:
        return await self._do("endpoints", lambda: self._store.failures(endpoint))

    async def publish(self, event: EndpointChanged) -> None:
        await self._do("endpoint events", lambda: self._publish(event), self._publishing)

    async def write_endpoint(self, row: EndpointRow) -> None:
        await self._do("endpoints", lambda: self._store.write_endpoint(row))
        rows = {name: known for name, known in self._endpoints.rows.items() if name != row.endpoint}
        if row.state != EndpointState.ACTIVE:
            rows[row.endpoint] = row
        self._endpoints = Endpoints(rows)
        _LOG.warning("endpoint %s is %s: %s", shown(row.endpoint), row.state, row.reason)

    def _find(self) -> list[DueDelivery]:
        owned = self._owned()
        if not owned or len(self._tasks) >= AT_ONCE:
            return []
        self._endpoints = self._store.endpoints()
        now = self._clock()
        return self._store.due(owned, list(self._tasks), now, now - KEPT, PER_TARGET, _ASKED)

    def _count(self) -> None:
        self._status.waiting = self._store.waiting(self._owned(), self._clock() - KEPT)
        self._status.endpoints = dict(Counter(row.state for row in self._endpoints.rows.values()))

    def _start(self, delivery: DueDelivery) -> None:
        to_target = sum(key[1:] == delivery.key[1:] for key in self._tasks)
        if delivery.key in self._tasks or to_target >= PER_TARGET:
            return
        task = asyncio.create_task(self._deliver(delivery))
        self._tasks[delivery.key] = task
        self._status.sending = len(self._tasks)

    async def _deliver(self, delivery: DueDelivery) -> None:
        begun = asyncio.get_running_loop().time()
        try:
            row = await self._deliverer.deliver(delivery, self._endpoints)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._failure = error
        else:
            self._status.durations.observe(asyncio.get_running_loop().time() - begun)
            key = (row.channel, row.state)
            self._status.tries[key] = self._status.tries.get(key, 0) + 1
            _log(row)
        finally:
            self._tasks.pop(delivery.key, None)
            self._status.sending = len(self._tasks)
            if self._waker is not None:
                self._waker.set()

    async def _wait(self, stop: Event) -> None:
        assert self._waker is not None
        try:
            async with asyncio.timeout(self._look_seconds):
                await self._waker.wait()
        except TimeoutError:
            pass

    async def _write_rows(self) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            batch, self._rows = self._rows, []
            if not batch:
                continue
            rows = [row for row, _ in batch]
            try:
                await self._do("deliveries", partial(self._store.write, rows))
            except BaseException as error:
                for _, done in batch:
                    if not done.done():
                        done.set_exception(error)
                raise
            for _, done in batch:
                if not done.done():
                    done.set_result(None)

    async def _do(self, activity: str, call: Callable[[], T], threads: DaemonThreads | None = None) -> T:
        """The answer of a call to the servers, which is repeated while they are away."""
        report, backoff, failed = self._status.errors.of(activity), Backoff(), False
        while True:
            try:
                answer = await (threads or self._threads).run(call)
            except Retryable as error:
                failed = True
                report(error)
                pause = backoff.next()
                _LOG.warning("%s; trying again in %.1f s", error, pause)
                await asyncio.sleep(pause)
            else:
                if failed:
                    report(None)
                return answer

    async def _persist(self, activity: str, call: Callable[[], T], stop: Event) -> T | None:
        """As `_do`; None when `stop` is set meanwhile."""
        task = asyncio.create_task(self._do(activity, call))
        while not task.done():
            await asyncio.wait([task], timeout=0.2)
            if stop.is_set() and not task.done():
                task.cancel()
                return None
        return task.result()


def _log(row: TryRow) -> None:
    target = shown(row.target) if row.channel == "webhook" else row.channel
    level = logging.INFO if row.state in ("delivered", "retrying") else logging.WARNING
    _LOG.log(
        level,
        "%s %s to %s, try %d: %s%s",
        row.event_type,
        row.event_id,
        target,
        row.attempt,
        row.state,
        f" ({row.error})" if row.error else "",
    )
