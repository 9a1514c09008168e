"""`Meter`: what an application records usage with."""

from __future__ import annotations

import time
import warnings
import weakref
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from meterfold.batch import BatchResults, Recorded
from meterfold.delivery import DeliveryCallback, DeliveryCounts
from meterfold.event_ids import EventIds
from meterfold.sender import Sender
from meterfold.settings import SdkSettings, producer_config
from meterfold.subjects import Resolver, subject_parts
from meterfold.tables import Row, rows
from meterfold_schemas.errors import BufferFull, InvalidUsage, MeterfoldError
from meterfold_schemas.periods import micros
from meterfold_schemas.settings import KafkaSettings, Sources, load_settings
from meterfold_schemas.topics import Topics
from meterfold_schemas.usage_encoder import EncodedSubject, UsageEncoder

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

    After a fork the child gets a producer of its own with its first event; what the parent had in its buffer is sent
    by the parent alone. A child must close its Meter (or the `with` around it) as the parent must.
    """

    def __init__(
        self,
        bootstrap_servers: str | None = None,
        *,
        org_id: str | None = None,
        resolver: Resolver | None = None,
        on_delivery: DeliveryCallback | None = None,
        topic_prefix: str | None = None,
        librdkafka: Mapping[str, str] | None = None,
        buffer_events: int | None = None,
        buffer_bytes: int | None = None,
        buffer_timeout: float | None = None,
        delivery_timeout: float | None = None,
        close_timeout: float | None = None,
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
        )
        self._org_id = sdk.org_id
        self._buffer_timeout = sdk.buffer_timeout
        self._close_timeout = sdk.close_timeout
        self._resolver = resolver
        self._encoder = UsageEncoder()
        self._ids = EventIds()
        self._sender = Sender(
            producer_config(kafka, sdk),
            Topics(kafka.topic_prefix).usage_recorded,
            buffer_timeout=sdk.buffer_timeout,
            event_id_of=self._encoder.event_id_of,
            on_delivery=on_delivery,
        )
        # No __del__: an object in the middle of its own destruction should not be talking to a broker.
        self._finalizer = weakref.finalize(self, _unclosed, self._sender, sdk.close_timeout)

    def record(
        self,
        metric_key: str,
        subject: object,
        quantity: int | Decimal | str | float = 1,
        *,
        id: str | None = None,
        timestamp: datetime | None = None,
        org_id: str | None = None,
        source: str | None = None,
        resource_type: str | None = None,
        resource_id: str | None = None,
        metadata: Mapping[str, Any] | str | None = None,
    ) -> str:
        """Take one event into the buffer and return its id; its delivery is reported later.

        `subject` is (subject_type, subject_id), a Subject, or an object that the resolver knows. Without `id` the event
        gets a UUIDv7, without `timestamp` (an aware datetime) the present time. Give an id of your own where the same
        event may be recorded twice: under one metric and subject an id counts once.

        Raises InvalidUsage; BufferFull when there was no room within buffer_timeout. Then nothing was taken.
        """
        kind, name, own_org = subject_parts(subject, self._resolver)
        org = org_id if org_id is not None else own_org if own_org is not None else self._org_id
        encoded = self._encoder.subject(org, metric_key, kind, name)
        event_id = self._ids.next() if id is None else id
        stamp = time.time_ns() // 1000 if timestamp is None else micros(timestamp)
        value = self._encoder.value(event_id, encoded, quantity, stamp, source, resource_type, resource_id, metadata)
        self._sender.send(encoded.key, value)
        return event_id

    def record_batch(self, events: Iterable[Mapping[str, Any]] | Any) -> BatchResults:
        """Take many events; one result per event, in their order. A bad event never spoils its neighbours.

        `events` is a list of mappings with the parameters of `record` (`subject`, or `subject_type` and `subject_id`),
        or a data frame or Arrow table with such columns. Once the buffer has been full for buffer_timeout, what finds
        no room is refused at once with BufferFull.

        Raises InvalidUsage only for a table or an argument that is unusable as a whole.
        """
        ids: list[str | None] = []
        others: dict[int, Recorded] = {}
        seen: set[bytes] = set()
        wait: float | None = None
        encode, send, next_id = self._encoder.value, self._sender.send, self._ids.next
        for row in rows(events):
            event_id: str | None = None
            try:
                if isinstance(row, InvalidUsage):
                    raise row
                event_id = given = row[6]
                subject = self._row_subject(row)
                quantity, _, timestamp, source, resource_type, resource_id, metadata = row[5:]
                if given is None:
                    event_id = next_id()
                stamp = time.time_ns() // 1000 if timestamp is None else micros(timestamp)
                value = encode(event_id, subject, quantity, stamp, source, resource_type, resource_id, metadata)
                if given is not None and (identity := subject.key + given.encode()) in seen:
                    others[len(ids)] = Recorded("repeated", given)
                else:
                    send(subject.key, value, wait)
                    if given is not None:
                        seen.add(identity)
            except MeterfoldError as error:
                if isinstance(error, BufferFull):
                    wait = 0.0
                others[len(ids)] = Recorded("refused", event_id if isinstance(event_id, str) else None, error)
            ids.append(event_id)
        return BatchResults(ids, others)

    def flush(self, timeout: float | None = None) -> None:
        """Wait until every recorded event is delivered, at most `timeout` seconds (None: as long as it takes).

        Raises UndeliveredEvents if events failed for good since the last flush, and FlushTimeout if some had no report
        in time; those stay in the buffer.
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
        self.close()

    def __repr__(self) -> str:
        return f"<Meter {'closed' if self._sender.closed else 'open'} {self.counts}>"

    def _row_subject(self, row: Row) -> EncodedSubject:
        metric_key, subject, kind, name, org_id = row[:5]
        if subject is not None:
            if kind is not None or name is not None:
                raise InvalidUsage("give either subject, or subject_type and subject_id")
            kind, name, own_org = subject_parts(subject, self._resolver)
            org_id = own_org if org_id is None else org_id
        return self._encoder.subject(self._org_id if org_id is None else org_id, metric_key, kind, name)


def _unclosed(sender: Sender, close_timeout: float) -> None:
    """For a Meter that was dropped, or is still open at the end of the program."""
    if (outstanding := sender.counts().outstanding) > 0:
        warnings.warn(
            f"a Meter was not closed and {outstanding} events had no report yet; use `with Meter()` or close(). "
            f"Sending them now, at most {close_timeout:g} s",
            ResourceWarning,
            stacklevel=2,
        )
    sender.close(close_timeout)
