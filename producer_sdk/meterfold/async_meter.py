"""`AsyncMeter`: `Meter` for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, Self, Unpack, overload

from meterfold.account import Cut
from meterfold.base import BaseMeter
from meterfold.batch import BatchResults
from meterfold.closing import attach, patience
from meterfold.delivery import Delivery, DeliveryCallback, ReportCallback
from meterfold.errors import BufferFull, DefinitionsUnavailable, MeterfoldError, UndeliveredEvents
from meterfold.event_loop import EventLoop
from meterfold.events import EventDetails, Table, UsageEvent, optional_values
from meterfold.recorder import Recorder
from meterfold.settings import SdkSettings
from meterfold.subjects import Known, Subject
from meterfold.transport import Transport
from meterfold.values import Id, Quantity

if TYPE_CHECKING:
    from meterfold.frames.batch import FrameBatch

__all__ = ["AsyncMeter"]

# Events of a batch between two turns of the event loop: about 3 ms of encoding.
_TURN_EVENTS: Final = 500
# Rows of a frame that are encoded at a time: about 5 ms.
_SLICE_ROWS: Final = 5_000


class AsyncMeter(BaseMeter[Known]):
    """Records usage events on Kafka from asyncio. The arguments are those of Meter; one per event loop is enough.

        async with AsyncMeter() as meter:
            await meter.record("api.calls", ("user", "u-17"))

    Nothing blocks the event loop: where Meter waits, this awaits. `on_delivery` is called in the event loop.

    It belongs to the event loop that uses it first, until that loop is closed; another loop gets WrongEventLoop.
    """

    def _callback(self, on_delivery: DeliveryCallback | None) -> DeliveryCallback | None:
        # Not a method of this object as a callback: the transport would keep it alive.
        self._loop = EventLoop()
        return None if on_delivery is None else self._loop.deliver(on_delivery)

    def _begin(self, recorder: Recorder, transport: Transport, sdk: SdkSettings) -> None:
        super()._begin(recorder, transport, sdk)
        transport.on_progress = self._loop.wake

    @overload
    async def record(
        self,
        metric_key: str,
        subject: Subject | tuple[str, Id] | Known,
        quantity: Quantity = 1,
        *,
        id: Id | None = None,
        timestamp: datetime | None = None,
        org_id: Id | None = None,
        confirm: Literal[False] = False,
        **details: Unpack[EventDetails],
    ) -> str: ...
    @overload
    async def record(
        self,
        metric_key: str,
        subject: Subject | tuple[str, Id] | Known,
        quantity: Quantity = 1,
        *,
        id: Id | None = None,
        timestamp: datetime | None = None,
        org_id: Id | None = None,
        confirm: Literal[True],
        **details: Unpack[EventDetails],
    ) -> Delivery: ...
    async def record(
        self,
        metric_key: str,
        subject: Subject | tuple[str, Id] | Known,
        quantity: Quantity = 1,
        *,
        id: Id | None = None,
        timestamp: datetime | None = None,
        org_id: Id | None = None,
        confirm: bool = False,
        **details: Unpack[EventDetails],
    ) -> str | Delivery:
        """As Meter.record, but awaits room in the buffer. Returns the event's id.

        With `confirm` it returns once the broker has the event: its Delivery, with partition and offset. It raises
        UndeliveredEvents if the delivery fails; flush and close do not raise that failure again.

        Cancelled while it awaits room: the event was not taken. Cancelled while it awaits the confirmation: the event
        is still sent, and flush or close raises if it fails.
        """
        self._loop.enter()
        metrics = self._recorder.metrics
        if metrics is not None and not metrics.is_read:
            await asyncio.to_thread(metrics.wait)
        event_id, key, value = self._recorder.encode(
            metric_key, subject, quantity, id, timestamp, org_id, optional_values(details) if details else ()
        )
        if confirm:
            return await self._confirmed(key, value)
        await self._send(key, value)
        return event_id

    async def record_batch(self, events: Iterable[UsageEvent[Known]] | Table) -> BatchResults:
        """As Meter.record_batch, but awaits room in the buffer, and gives other tasks a turn between events.

        Cancelled, it takes no further events; those that were taken are sent. Give events ids of your own to record a
        batch again after that.
        """
        self._loop.enter()
        metrics = self._recorder.metrics
        if metrics is not None and not metrics.is_read:
            with suppress(DefinitionsUnavailable):  # the error of each event
                await asyncio.to_thread(metrics.wait)
        frame = self._recorder.frame(events)
        if frame is not None:
            return await self._record_frame(frame)
        steps = self._recorder.batch(events)
        wait: float | None = None
        taken = 0
        try:
            _, key, value = next(steps)
            while True:
                try:
                    await self._send(key, value, wait)
                except MeterfoldError as error:
                    if isinstance(error, BufferFull):
                        wait = 0.0
                    _, key, value = steps.throw(error)
                else:
                    _, key, value = next(steps)
                taken += 1
                if taken % _TURN_EVENTS == 0:
                    await asyncio.sleep(0)
        except StopIteration as end:
            results: BatchResults = end.value
            return results

    async def _record_frame(self, frame: FrameBatch) -> BatchResults:
        wait: float | None = None
        for run in frame.runs(_SLICE_ROWS):
            place = 0
            while place < len(run):
                try:
                    # Not past those that await room already.
                    if not self._loop.room.locked():
                        turn = min(place + _TURN_EVENTS, len(run))
                        place += self._transport.send_many(run.keys, run.values, place, turn)
                        if place == turn:
                            await asyncio.sleep(0)
                            continue
                    await self._send(run.keys[place], run.values[place], wait)
                except MeterfoldError as error:
                    if isinstance(error, BufferFull):
                        wait = 0.0
                    frame.refuse(run.rows[place], error)
                place += 1
        results = frame.results()
        self._recorder.warn(results)
        return results

    async def flush(self, timeout: float | None = None) -> None:
        """As Meter.flush: wait until every event that was recorded before this call is delivered."""
        self._loop.enter()
        cut = self._transport.cut()
        await self._wait_for(cut, timeout)
        self._transport.end_flush(cut, timeout)

    async def close(self, timeout: float | None = None) -> None:
        """As Meter.close. Cancelled, it stops sending: what is outstanding is reported as failed."""
        await self._close(self._close_timeout if timeout is None else timeout)

    async def __aenter__(self) -> Self:
        self._loop.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close, as Meter does at the end of `with`."""
        if error is None:
            await self.close()
            return
        try:
            await self._close(*patience(error, self._close_timeout))
        except UndeliveredEvents as lost:
            attach(lost, error)

    async def _send(
        self, key: bytes, value: bytes, wait: float | None = None, on_report: ReportCallback | None = None
    ) -> None:
        """Raises what Transport.send raises. Between the event being taken and the return there is no await: a
        cancelled task knows that its event was not taken.
        """
        send, room = self._transport.send, self._loop.room
        if not room.locked():
            try:
                return send(key, value, 0.0, on_report)
            except BufferFull:
                pass

        def sent() -> bool:
            try:
                send(key, value, 0.0, on_report)
            except BufferFull:
                return False
            return True

        seconds = self._buffer_timeout if wait is None else wait
        if seconds > 0:
            try:
                async with asyncio.timeout(seconds), room:
                    await self._loop.until(sent, _unlimited)
                    return None
            except TimeoutError:
                pass
        raise self._transport.full(seconds)

    async def _confirmed(self, key: bytes, value: bytes) -> Delivery:
        reported: asyncio.Future[Delivery] = asyncio.get_running_loop().create_future()
        put_back = self._transport.put_back

        def settle(report: Delivery) -> None:
            if not reported.done():
                reported.set_result(report)
            elif not report.delivered:  # cancelled meanwhile
                put_back(report)

        await self._send(key, value, None, lambda report: self._loop.call(settle, report))
        try:
            report = await reported
        except asyncio.CancelledError:
            # The report may have come in the same turn of the loop, and then only this task has it.
            if reported.done() and not reported.cancelled() and not (report := reported.result()).delivered:
                put_back(report)
            raise
        if not report.delivered:
            raise UndeliveredEvents(1, (report,))
        return report

    async def _close(self, timeout: float, idle: float | None = None) -> None:
        self._loop.enter()
        self._finalizer.detach()
        self._transport.take_no_more()
        try:
            await self._wait_for(self._transport.cut(), timeout, idle)
        finally:
            # Frees the producer even if this task is cancelled again.
            await asyncio.shield(asyncio.to_thread(self._transport.free))
        self._transport.raise_failures()

    async def _wait_for(self, cut: Cut, timeout: float | None, idle: float | None = None) -> None:
        """Until the cut is done, as Transport.wait_for."""
        transport, now = self._transport, asyncio.get_running_loop().time
        start = now()

        def seconds_left() -> float | None:
            waited = now() - start
            left = None if timeout is None else timeout - waited
            if idle is None:
                return left
            quiet = idle - min(waited, transport.seconds_without_report())
            return quiet if left is None else min(left, quiet)

        await self._loop.until(lambda: cut.done or transport.freed, seconds_left)


def _unlimited() -> None:
    return None
