"""The trace of the application on its events: W3C Trace Context in the headers `traceparent` and `tracestate`.

The headers are added by a subclass of the producer, so an application without OpenTelemetry, or with
`propagate_trace="off"`, runs none of this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from confluent_kafka import Producer

from meterfold.errors import InvalidSettings
from meterfold_schemas.traces import PARENT, STATE, traceparent

__all__ = ["TraceMode", "producer_class"]

TraceMode = Literal["auto", "on", "off"]
"""auto: where opentelemetry-api is installed. on: raises InvalidSettings where it is not."""

_Headers = list[tuple[str, str | bytes | None]]


def producer_class(mode: TraceMode, base: type[Producer] = Producer) -> type[Producer]:
    """The producer that a Meter makes: `base`, or a subclass that adds the headers."""
    if mode == "off":
        return base
    try:
        from opentelemetry.context import get_current
        from opentelemetry.trace import get_current_span
    except ImportError:
        if mode == "on":
            raise InvalidSettings(
                "propagate_trace=on needs OpenTelemetry, which is not installed: pip install 'meterfold[otel]'"
            ) from None
        return base
    return _traced(base, _current(get_current, get_current_span))


def _current(
    current_context: Callable[[], Mapping[str, object]], span_of: Callable[[Any], Any]
) -> Callable[[], _Headers | None]:
    """The headers of the span that is current in this thread or task; None outside of a span."""

    def headers() -> _Headers | None:
        context = current_context()
        if not context:  # the usual case of an application without spans, which pays for each line here
            return None
        own = span_of(context).get_span_context()
        if not own.is_valid:
            return None
        found: _Headers = [(PARENT, traceparent(own.trace_id, own.span_id, own.trace_flags))]
        if own.trace_state:
            found.append((STATE, own.trace_state.to_header().encode()))
        return found

    return headers


def _traced(base: Any, current: Callable[[], _Headers | None]) -> type[Producer]:
    produce = base.produce

    class TracedProducer(base):  # type: ignore[misc]
        def produce(self, topic: str, value: bytes, key: bytes, partition: int, on_delivery: Any) -> None:
            headers = current()
            if headers is None:
                produce(self, topic, value, key, partition, on_delivery)
            else:
                produce(self, topic, value, key, partition, on_delivery, headers=headers)

    return TracedProducer
