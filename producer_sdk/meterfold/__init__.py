"""The Meterfold SDK: record usage from an application.

    from meterfold import Meter

    with Meter() as meter:
        meter.record("api.calls", ("user", "u-17"))
        meter.record("storage.bytes", ("project", "p-3"), 1_500_000, org_id="acme")

`record` returns as soon as the event is in a bounded buffer; whether the broker has it comes as a report: a callback
(`on_delivery`), `meter.counts`, and an error from `flush` and `close` for events that failed. Nothing is dropped in
silence.
"""

from __future__ import annotations

from meterfold.batch import BatchResults, Recorded, RefusedEvents
from meterfold.delivery import Delivery, DeliveryCounts, FlushTimeout, UndeliveredEvents
from meterfold.meter import Meter
from meterfold.subjects import Resolver, Subject
from meterfold_schemas.errors import (
    BufferFull,
    DeliveryFailed,
    Fatal,
    InvalidSettings,
    InvalidUsage,
    MeterfoldError,
    Retryable,
)

__all__ = [
    "BatchResults",
    "BufferFull",
    "Delivery",
    "DeliveryCounts",
    "DeliveryFailed",
    "Fatal",
    "FlushTimeout",
    "InvalidSettings",
    "InvalidUsage",
    "Meter",
    "MeterfoldError",
    "Recorded",
    "RefusedEvents",
    "Resolver",
    "Retryable",
    "Subject",
    "UndeliveredEvents",
]
