"""`Gateway`: records batches for others, such as the events of HTTP requests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Never

from meterfold.base import BaseMeter
from meterfold.errors import BufferFull, MeterClosed, NotRecorded
from meterfold.recorder import Encoded
from meterfold.sender import Sender
from meterfold.sent_batch import SentBatch
from meterfold.settings import SdkSettings
from meterfold.subjects import Resolvers
from meterfold_schemas.plurals import plural
from meterfold_schemas.settings import KafkaSettings

__all__ = ["Gateway"]

#: librdkafka counts an event until its report was served, which is a moment longer than it is counted here.
_USABLE: Final = 0.9


class Gateway(BaseMeter[Never]):
    """Takes a batch as a whole or not at all, never waits, and reports its end. Every method may be called from any
    thread.
    """

    def __init__(self, kafka: KafkaSettings, sdk: SdkSettings) -> None:
        """Raises InvalidSettings. `enabled`, `buffer_timeout` and `org_id` of `sdk` are not used."""
        self._most_events = int(sdk.buffer_events * _USABLE)
        self._most_bytes = int(sdk.buffer_bytes * _USABLE)
        self._lock = threading.Lock()
        self._events = self._bytes = 0
        self._busy_since = 0.0
        self._connect(kafka, sdk.model_copy(update={"buffer_timeout": 0.0, "org_id": ""}), Resolvers())

    def encode(
        self,
        metric_key: Any,
        subject: tuple[Any, Any],
        quantity: Any,
        id: Any,
        timestamp: Any,
        org_id: Any,
        optional: Sequence[Any],
    ) -> Encoded:
        """(id, key, value) of one event, as Meter.record takes it. Raises InvalidUsage, and DefinitionsUnavailable."""
        return self._recorder.encode(metric_key, subject, quantity, id, timestamp, org_id, optional)

    def check_ages(self, horizon_seconds: int, future_tolerance_seconds: int) -> None:
        """Refuse, from now on, timestamps that would not count by these rules of the installation."""
        self._recorder.check_ages(horizon_seconds, future_tolerance_seconds)

    def take(self, keys: Sequence[bytes], values: Sequence[bytes], on_end: Callable[[], None]) -> SentBatch:
        """Take one event or more. `on_end` is called once, when each of them is delivered or has failed.

        Raises BufferFull where the buffer has no room for all of them, NotRecorded where it never has, and MeterClosed;
        then nothing was taken.
        """
        events, size = len(keys), sum(map(len, keys)) + sum(map(len, values))
        if events > self._most_events or size > self._most_bytes:
            raise NotRecorded(
                f"a batch of {plural(events, 'event')} and {size:,} bytes is larger than the buffer "
                f"({self._most_events:,} events, {self._most_bytes:,} bytes); send smaller batches"
            )
        with self._lock:
            if self._events + events > self._most_events or self._bytes + size > self._most_bytes:
                raise BufferFull(
                    f"the buffer has no room for {plural(events, 'event')}: {plural(self._events, 'event')} "
                    f"({self._bytes:,} bytes) in it have no report from the broker yet; nothing was taken"
                )
            if not self._events:
                self._busy_since = time.monotonic()
            self._events += events
            self._bytes += size

        def ended() -> None:
            with self._lock:
                self._events -= events
                self._bytes -= size
            on_end()

        batch = SentBatch(events, ended)
        assert isinstance(self._transport, Sender)
        try:
            self._transport.send_batch(keys, values, batch)
        except MeterClosed:
            with self._lock:
                self._events -= events
                self._bytes -= size
            raise
        return batch

    @property
    def seconds_without_report(self) -> float:
        """How long no report has come although there were events to report on; 0 without any."""
        if not self._events:
            return 0.0
        return min(self._transport.seconds_without_report(), time.monotonic() - self._busy_since)

    def close(self, timeout: float | None = None) -> None:
        """Deliver what was taken within `timeout` seconds (default close_timeout); the rest is reported as failed."""
        self._finalizer.detach()
        self._transport.close(self._close_timeout if timeout is None else timeout)
