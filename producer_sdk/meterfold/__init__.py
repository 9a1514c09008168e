"""The Meterfold SDK: record usage from an application.

    from meterfold import Meter

    with Meter() as meter:
        meter.record("api.calls", ("user", "u-17"))
        meter.record("storage.bytes", ("project", "p-3"), 1_500_000, org_id="acme")

`record` returns as soon as the event is in a bounded buffer. Whether the broker has it is reported later: by a callback
(`on_delivery`), by `meter.counts`, and by an error of `flush` and `close` for events that failed. Nothing is dropped
silently.

AsyncMeter is the same for asyncio, and meterfold.testing has both for the tests of an application.
"""

from __future__ import annotations

from meterfold.async_meter import AsyncMeter
from meterfold.batch import BatchResults, Recorded
from meterfold.delivery import Delivery, DeliveryCounts
from meterfold.errors import (
    BufferFull,
    DefinitionsUnavailable,
    FlushTimeout,
    InvalidSettings,
    InvalidUsage,
    MeterClosed,
    MeterfoldError,
    MetricNotFound,
    NotRecorded,
    RefusedEvents,
    UndeliveredEvents,
    WrongEventLoop,
)
from meterfold.events import UsageEvent
from meterfold.meter import Meter
from meterfold.subjects import Resolver, Subject

__all__ = [
    "AsyncMeter",
    "BatchResults",
    "BufferFull",
    "DefinitionsUnavailable",
    "Delivery",
    "DeliveryCounts",
    "FlushTimeout",
    "InvalidSettings",
    "InvalidUsage",
    "Meter",
    "MeterClosed",
    "MeterfoldError",
    "MetricNotFound",
    "NotRecorded",
    "Recorded",
    "RefusedEvents",
    "Resolver",
    "Subject",
    "UndeliveredEvents",
    "UsageEvent",
    "WrongEventLoop",
]
