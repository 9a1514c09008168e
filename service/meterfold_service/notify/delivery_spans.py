"""A span for each try of a delivery, in the trace of its event.

Which trace an event belongs to is only in the headers of its message, and is remembered in memory: a try after a
restart begins a trace of its own.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

from meterfold_processor.tracing import NO_SPANS, OpenSpan, Spans
from meterfold_schemas.traces import TraceContext
from meterfold_sink.notification_tries import TryRow

__all__ = ["UNTRACED", "DeliverySpans"]

REMEMBERED: Final = 10_000
"""Events whose trace is remembered."""


class DeliverySpans:
    """`remember` is for one thread, `start` for another: each changes the dictionary by single operations."""

    def __init__(self, spans: Spans) -> None:
        self._spans = spans
        self._traces: OrderedDict[str, TraceContext] = OrderedDict()

    def remember(self, event_id: str, headers: Any) -> None:
        """The trace of an event that was read."""
        if self._spans.enabled and (found := TraceContext.read(headers)) is not None:
            self._traces[event_id] = found
            if len(self._traces) > REMEMBERED:
                self._traces.popitem(last=False)

    def start(self, begun: TryRow) -> OpenSpan | None:
        """The span of a try."""
        return self._spans.start(
            f"notify {begun.channel}",
            "CLIENT",
            self._traces.get(begun.event_id),
            {
                "messaging.message.id": begun.event_id,
                "messaging.destination.name": begun.topic,
                "meterfold.channel": begun.channel,
                "meterfold.attempt": begun.attempt,
            },
        )


UNTRACED: Final = DeliverySpans(NO_SPANS)
