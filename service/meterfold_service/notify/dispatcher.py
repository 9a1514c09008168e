"""Sends what is due, until it is stopped: many deliveries at a time, but few to one target.

So a slow target delays no other. What is open is read from the store when a partition is assigned, and after that only
what changes (see agenda): the cost of a look does not depend on how many deliveries there have been.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from threading import Event
from typing import Final, TypeVar

from meterfold_processor.backoff import Backoff
from meterfold_schemas.endpoint_changes import EndpointChanged, EndpointState
from meterfold_schemas.errors import Retryable
from meterfold_service.notify.addresses import shown
from meterfold_service.notify.agenda import Agenda
from meterfold_service.notify.delivering import Deliverer
from meterfold_service.notify.delivery_spans import UNTRACED, DeliverySpans
from meterfold_service.notify.outcomes import Sender
from meterfold_service.notify.status import NotifyStatus
from meterfold_service.notify.store import Endpoints, Store
from meterfold_service.notify.threads import DaemonThreads
from meterfold_sink.notification_tries import EndpointRow, TryRow
from meterfold_sink.notifications import KEPT, DeliveryKey, DueDelivery, Failures, OpenDelivery

__all__ = ["Dispatcher"]

_LOG = logging.getLogger("meterfold.notify")

AT_ONCE: Final = 1_000
_ASKED: Final = 500
_LOOK_SECONDS: Final = 1.0
_COUNT_SECONDS: Final = 15.0
_LOAD_SECONDS: Final = 5.0
"""Least time between two loads because a target has more open deliveries than the agenda holds."""
_GRACE_SECONDS: Final = 5.0

T = TypeVar("T")


class Dispatcher:
    """`run` blocks its thread. `publish` writes an event to endpoint.changed and returns when it lasts. `owned`:
    (topic, partition) -> a number that differs each time it is assigned."""

    def __init__(
        self,
        store: Store,
        senders: Mapping[str, Sender],
        publish: Callable[[EndpointChanged], None],
        owned: Callable[[], Mapping[tuple[str, int], int]],
        disable_after: timedelta,
        status: NotifyStatus,
        *,
        spans: DeliverySpans = UNTRACED,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        look_seconds: float = _LOOK_SECONDS,
        agenda: Agenda | None = None,
    ) -> None:
        self._store = store
        self._senders = senders
        self._publish = publish
        self._owned = owned
        self._status = status
        self._clock = clock
        self._look_seconds = look_seconds
        self._agenda = agenda or Agenda()
        self._loaded: Mapping[tuple[str, int], int] = {}
        self._loaded_at = self._looked_at = self._waiting_at = self._counted_at = float("-inf")
        self._planned: deque[Sequence[OpenDelivery]] = deque()
        self._requests: dict[int, int] = {}
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

    def planned(self, deliveries: Sequence[OpenDelivery]) -> None:
        """Send these, which are in the store; from any thread."""
        self._planned.append(deliveries)
        self.wake()

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
        try:
            while not stop.is_set():
                if self._failure is not None:
                    raise self._failure
                self._waker.clear()
                if not await self._look(stop):
                    break
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

    async def _look(self, stop: Event) -> bool:
        """Bring the agenda up to date and start what is due; False when `stop` is set meanwhile."""
        owned, loop = self._owned(), asyncio.get_running_loop()
        if self._agenda.wants_more(self._clock()) and loop.time() - self._loaded_at >= _LOAD_SECONDS:
            self._loaded = {}
        if not (await self._load(owned, stop) and await self._take_requests(owned, stop)):
            return False
        while self._planned:
            self._agenda.add(self._planned.popleft())
        most = max(0, min(_ASKED, AT_ONCE - len(self._tasks)))
        if chosen := self._agenda.choose(self._clock(), owned, self._tasks.keys(), most):
            read = partial(self._read, chosen)
            states = await self._persist("deliveries", read, stop)
            if states is None:
                return False
            for delivery in self._agenda.settle(chosen, states, self._clock()):
                self._start(delivery)
        if self._agenda.complete and loop.time() - self._waiting_at >= self._look_seconds:
            self._waiting_at = loop.time()
            self._status.waiting = self._agenda.waiting()
        if loop.time() - self._counted_at >= _COUNT_SECONDS:
            self._counted_at = loop.time()
            complete = self._agenda.complete
            return await self._persist("deliveries", lambda: self._count(complete), stop) is not None
        return True

    async def _load(self, owned: Mapping[tuple[str, int], int], stop: Event) -> bool:
        if owned == self._loaded:
            return True
        if owned.items() <= self._loaded.items():
            self._agenda.keep(owned)
        else:
            kept, most = self._clock() - KEPT, self._agenda.most_held
            found = await self._persist("deliveries", lambda: self._store.open(owned, kept, most), stop)
            if found is None:
                return False
            self._agenda.load(found)
            self._loaded_at = asyncio.get_running_loop().time()
        self._loaded = owned
        return True

    async def _take_requests(self, owned: Mapping[tuple[str, int], int], stop: Event) -> bool:
        """What users have asked to send meanwhile. The rows of one request can arrive in several parts."""
        loop = asyncio.get_running_loop()
        if not owned or loop.time() - self._looked_at < self._look_seconds:
            return True
        self._looked_at = loop.time()
        requests = await self._persist("deliveries", self._store.requests, stop)
        if requests is None:
            return False
        if rounds := [number for number, rows in requests.items() if self._requests.get(number) != rows]:
            most = self._agenda.most_held
            found = await self._persist("deliveries", lambda: self._store.requested(owned, rounds, most), stop)
            if found is None:
                return False
            self._agenda.add(found)
        self._requests = requests
        return True

    def _read(self, chosen: Sequence[OpenDelivery]) -> list[DueDelivery]:
        self._endpoints = self._store.endpoints()
        return self._store.states(chosen)

    def _count(self, complete: bool) -> bool:
        """`complete`: the agenda holds everything that waits."""
        if not complete:
            self._status.waiting = self._store.waiting(self._loaded, self._clock() - KEPT)
        self._endpoints = self._store.endpoints()
        self._status.endpoints = dict(Counter(row.state for row in self._endpoints.rows.values()))
        return True

    def _start(self, delivery: DueDelivery) -> None:
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
            self._agenda.ended(row)
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
