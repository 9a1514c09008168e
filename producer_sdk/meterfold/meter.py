"""`Meter`: what an application records usage with."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, Unpack

from meterfold.base import BaseMeter
from meterfold.batch import BatchResults
from meterfold.closing import attach, patience
from meterfold.errors import BufferFull, MeterfoldError, UndeliveredEvents
from meterfold.events import EventDetails, Table, UsageEvent, optional_values
from meterfold.subjects import Known, Subject
from meterfold.values import Id, Quantity

if TYPE_CHECKING:
    from meterfold.frames.batch import FrameBatch

__all__ = ["Meter"]

_SLICE_ROWS: Final = 32_768
"""Rows of a frame that are encoded at a time."""


class Meter(BaseMeter[Known]):
    """Records usage events on Kafka. One per process is enough; every method may be called from any thread.

        with Meter() as meter:
            meter.record("api.calls", ("user", "u-17"))

    Settings: arguments, then METERFOLD_* variables, then the file that `config` or METERFOLD_CONFIG names. `librdkafka`
    takes any setting of librdkafka (TLS, SASL, ...). Times are in seconds.

    resolver, resolvers          turn objects of the application into subjects; the second by their type
    enabled                      False records nothing, checks nothing, never raises on an event, and needs no broker
    buffer_events, buffer_bytes  the most that is held without a report from the broker
    buffer_timeout               how long `record` waits for room before it raises BufferFull
    delivery_timeout             after this an event that the broker has not confirmed is reported as failed
    close_timeout                how long `close` keeps sending
    horizon_seconds, future_tolerance_seconds
                                 the installation's rules: `record` refuses a timestamp that would not count
    strict                       True refuses usage of metrics that are not defined or not active: MetricNotFound
    propagate_trace              "auto" gives events the trace of the current OpenTelemetry span where opentelemetry is
                                 installed; "on" requires it; "off" never does
    rounding                     "half_even" or "half_up" rounds quantities to 9 decimals; None (the default) refuses
                                 those with more

    After a fork the child gets a producer of its own with its first event; the parent alone sends what it had in its
    buffer. Children of multiprocessing and Celery send what they have when they end; docs/recording.md says what other
    servers and task queues need. In asyncio use AsyncMeter, in tests meterfold.testing.
    """

    def record(
        self,
        metric_key: str,
        subject: Subject | tuple[str, Id] | Known,
        quantity: Quantity = 1,
        *,
        id: Id | None = None,
        timestamp: datetime | None = None,
        org_id: Id | None = None,
        **details: Unpack[EventDetails],
    ) -> str:
        """Take one event into the buffer and return its id; its delivery is reported later.

        `subject` is (subject_type, subject_id), a Subject, or an object that a resolver knows. Without `id` the event
        gets a UUIDv7, without `timestamp` (an aware datetime) the present time. Give an id of your own where the same
        event may be recorded twice: under one metric and subject an id counts once. Ids may be text, UUIDs or integers;
        a UUID or an integer counts as its text, so 42 and "42" are the same id.

        Raises InvalidUsage, with code TOO_OLD or IN_FUTURE for a timestamp outside of horizon_seconds and
        future_tolerance_seconds; BufferFull when there was no room within buffer_timeout; with `strict` MetricNotFound,
        and DefinitionsUnavailable as long as the definitions could not be read once, for which the first events wait up
        to buffer_timeout. Then nothing was taken.
        """
        event_id, key, value = self._recorder.encode(
            metric_key, subject, quantity, id, timestamp, org_id, optional_values(details) if details else ()
        )
        self._transport.send(key, value)
        return event_id

    def record_batch(self, events: Iterable[UsageEvent[Known]] | Table) -> BatchResults:
        """Take many events; one result per event, in their order. A bad event does not affect the others.

        `events` is a list of mappings with the parameters of `record` (`subject`, or `subject_type` and `subject_id`),
        or a data frame or Arrow table with such columns. Once the buffer has been full for buffer_timeout, what finds
        no room is refused at once with BufferFull. Refused events are logged as one warning; `raise_refused()` of the
        result makes them an error.

        Raises InvalidUsage only for a table or an argument that is unusable as a whole.
        """
        frame = self._recorder.frame(events)
        if frame is not None:
            return self._record_frame(frame)
        steps = self._recorder.batch(events)
        wait: float | None = None
        try:
            _, key, value = next(steps)
            while True:
                try:
                    self._transport.send(key, value, wait)
                except MeterfoldError as error:
                    if isinstance(error, BufferFull):
                        wait = 0.0
                    _, key, value = steps.throw(error)
                else:
                    _, key, value = next(steps)
        except StopIteration as end:
            results: BatchResults = end.value
            return results

    def _record_frame(self, frame: FrameBatch) -> BatchResults:
        send_many, send = self._transport.send_many, self._transport.send
        wait: float | None = None
        for run in frame.runs(_SLICE_ROWS):
            place = 0
            while place < len(run):
                try:
                    place += send_many(run.keys, run.values, place, len(run))
                    if place < len(run):
                        send(run.keys[place], run.values[place], wait)
                except MeterfoldError as error:
                    if isinstance(error, BufferFull):
                        wait = 0.0
                    frame.refuse(run.rows[place], error)
                place += 1
        results = frame.results()
        self._recorder.warn(results)
        return results

    def flush(self, timeout: float | None = None) -> None:
        """Wait until every event that was recorded before this call is delivered, at most `timeout` seconds.

        None waits for every report, and so at most delivery_timeout. It does not wait for what other threads record
        meanwhile. Raises UndeliveredEvents if events failed since the last flush, and FlushTimeout if some had no
        report in time; those stay in the buffer and are still sent.
        """
        self._transport.flush(timeout)

    def close(self, timeout: float | None = None) -> None:
        """Deliver what was recorded within `timeout` seconds (default close_timeout), then free everything.

        What could not be delivered is reported as failed and raised as UndeliveredEvents. Closing twice is harmless.
        """
        self._finalizer.detach()
        self._transport.close(self._close_timeout if timeout is None else timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close. An exception of the application is not delayed for long and never replaced: what could not be
        delivered is a note on it, and in the log.
        """
        if error is None:
            self.close()
            return
        self._finalizer.detach()
        timeout, idle = patience(error, self._close_timeout)
        try:
            self._transport.close(timeout, idle)
        except UndeliveredEvents as lost:
            attach(lost, error)
