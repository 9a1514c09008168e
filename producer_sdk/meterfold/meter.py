"""`Meter`: what an application records usage with."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from meterfold.batch import BatchResults
from meterfold.closing import attach, patience, send_unclosed
from meterfold.delivery import DeliveryCallback, DeliveryCounts, UndeliveredEvents
from meterfold.recorder import Recorder
from meterfold.sender import Sender
from meterfold.settings import SdkSettings, producer_config
from meterfold.subjects import Resolver
from meterfold.values import Id, Quantity
from meterfold_schemas.errors import BufferFull, MeterfoldError
from meterfold_schemas.settings import KafkaSettings, Sources, load_settings
from meterfold_schemas.topics import Topics

__all__ = ["Meter"]


class Meter:
    """Records usage events on Kafka. One per process is enough; every method may be called from any thread.

        with Meter() as meter:
            meter.record("api.calls", ("user", "u-17"))

    Settings: arguments, then METERFOLD_* variables, then meterfold.toml. `librdkafka` takes any setting of librdkafka
    (TLS, SASL, ...). Times are in seconds.

    buffer_events, buffer_bytes  the most that is held without a report from the broker
    buffer_timeout               how long `record` waits for room before it raises BufferFull
    delivery_timeout             after this an event that the broker has not confirmed is reported as failed
    close_timeout                how long `close` goes on sending
    horizon_seconds, future_tolerance_seconds
                                 the installation's rules: `record` refuses a timestamp that would not count
    rounding                     "half_even" or "half_up" rounds quantities to 9 decimals; None (the default) refuses
                                 those with more

    After a fork the child gets a producer of its own with its first event; what the parent had in its buffer is sent
    by the parent alone. Children of multiprocessing and Celery send what they have when they end; docs/recording.md
    says what other servers and task queues need, and what to do in asyncio.
    """

    def __init__(
        self,
        bootstrap_servers: str | None = None,
        *,
        org_id: str | None = None,
        resolver: Resolver | None = None,
        on_delivery: DeliveryCallback | None = None,
        rounding: Literal["half_even", "half_up"] | None = None,
        topic_prefix: str | None = None,
        librdkafka: Mapping[str, str] | None = None,
        buffer_events: int | None = None,
        buffer_bytes: int | None = None,
        buffer_timeout: float | None = None,
        delivery_timeout: float | None = None,
        close_timeout: float | None = None,
        horizon_seconds: int | None = None,
        future_tolerance_seconds: int | None = None,
        config: Path | str | None = None,
    ) -> None:
        """Raises InvalidSettings. Does not wait for the broker: events recorded before it is up are sent then."""
        sources = Sources.read(config=config)
        kafka = KafkaSettings.load(
            sources=sources, bootstrap_servers=bootstrap_servers, topic_prefix=topic_prefix, librdkafka=librdkafka
        )
        sdk = load_settings(
            SdkSettings,
            "sdk",
            sources=sources,
            org_id=org_id,
            buffer_events=buffer_events,
            buffer_bytes=buffer_bytes,
            buffer_timeout=buffer_timeout,
            delivery_timeout=delivery_timeout,
            close_timeout=close_timeout,
            horizon_seconds=horizon_seconds,
            future_tolerance_seconds=future_tolerance_seconds,
        )
        self._close_timeout = sdk.close_timeout
        self._recorder = Recorder(
            sdk.org_id,
            resolver,
            horizon_seconds=sdk.horizon_seconds,
            future_tolerance_seconds=sdk.future_tolerance_seconds,
            rounding=rounding,
        )
        self._sender = Sender(
            producer_config(kafka, sdk),
            Topics(kafka.topic_prefix).usage_recorded,
            buffer_timeout=sdk.buffer_timeout,
            close_timeout=sdk.close_timeout,
            event_id_of=self._recorder.event_id_of,
            on_delivery=on_delivery,
        )
        # No __del__: an object in the middle of its own destruction should not be talking to a broker.
        self._finalizer = weakref.finalize(self, send_unclosed, self._sender, sdk.close_timeout)

    def record(
        self,
        metric_key: str,
        subject: object,
        quantity: Quantity = 1,
        *,
        id: Id | None = None,
        timestamp: datetime | None = None,
        org_id: Id | None = None,
        source: str | None = None,
        resource_type: str | None = None,
        resource_id: Id | None = None,
        metadata: Mapping[str, Any] | str | None = None,
    ) -> str:
        """Take one event into the buffer and return its id; its delivery is reported later.

        `subject` is (subject_type, subject_id), a Subject, or an object that the resolver knows. Without `id` the event
        gets a UUIDv7, without `timestamp` (an aware datetime) the present time. Give an id of your own where the same
        event may be recorded twice: under one metric and subject an id counts once. Ids may be text, UUIDs or integers;
        a UUID or an integer stands for its text, so 42 and "42" are the same id.

        Raises InvalidUsage, with code TOO_OLD or IN_FUTURE for a timestamp outside of horizon_seconds and
        future_tolerance_seconds; BufferFull when there was no room within buffer_timeout. Then nothing was taken.
        """
        event_id, key, value = self._recorder.encode(
            metric_key, subject, quantity, id, timestamp, org_id, source, resource_type, resource_id, metadata
        )
        self._sender.send(key, value)
        return event_id

    def record_batch(self, events: Iterable[Mapping[str, Any]] | Any) -> BatchResults:
        """Take many events; one result per event, in their order. A bad event never spoils its neighbours.

        `events` is a list of mappings with the parameters of `record` (`subject`, or `subject_type` and `subject_id`),
        or a data frame or Arrow table with such columns. Once the buffer has been full for buffer_timeout, what finds
        no room is refused at once with BufferFull. Refused events are logged as one warning; `raise_refused()` of the
        result makes them an error.

        Raises InvalidUsage only for a table or an argument that is unusable as a whole.
        """
        steps = self._recorder.batch(events)
        wait: float | None = None
        try:
            _, key, value = next(steps)
            while True:
                try:
                    self._sender.send(key, value, wait)
                except MeterfoldError as error:
                    if isinstance(error, BufferFull):
                        wait = 0.0
                    _, key, value = steps.throw(error)
                else:
                    _, key, value = next(steps)
        except StopIteration as end:
            results: BatchResults = end.value
            return results

    def flush(self, timeout: float | None = None) -> None:
        """Wait until every event that was recorded before this call is delivered, at most `timeout` seconds.

        None waits as long as it takes, which delivery_timeout bounds. What other threads record meanwhile is not waited
        for. Raises UndeliveredEvents if events failed for good since the last flush, and FlushTimeout if some had no
        report in time; those stay in the buffer and are still sent.
        """
        self._sender.flush(timeout)

    def close(self, timeout: float | None = None) -> None:
        """Deliver what was recorded within `timeout` seconds (default close_timeout), then free everything.

        What could not be delivered is reported as failed and raised as UndeliveredEvents. Closing again is harmless.
        """
        self._finalizer.detach()
        self._sender.close(self._close_timeout if timeout is None else timeout)

    @property
    def counts(self) -> DeliveryCounts:
        """How many events were recorded, delivered, failed, and are outstanding."""
        return self._sender.counts()

    @property
    def trouble(self) -> str | None:
        """What keeps the client from delivering (broker away, wrong password, TLS), in librdkafka's words.

        None while nothing is known to be wrong, and again once events are delivered.
        """
        return self._sender.trouble

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close. An exception of the application is not held up for long and never replaced: what could not be
        delivered is a note on it, and in the log.
        """
        if error is None:
            self.close()
            return
        self._finalizer.detach()
        timeout, idle = patience(error, self._close_timeout)
        try:
            self._sender.close(timeout, idle)
        except UndeliveredEvents as lost:
            attach(lost, error)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'closed' if self._sender.closed else 'open'} {self.counts}>"
