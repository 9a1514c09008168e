"""Spans of the workers, by the OpenTelemetry API, which is optional. Without a tracer nothing here runs.

Which spans there are is in docs/tracing.md. Names and attributes follow OpenTelemetry's conventions for messaging.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, Literal

from meterfold_schemas.traces import TraceContext, traceparent

if TYPE_CHECKING:
    from opentelemetry.trace import Span, SpanContext, Tracer

__all__ = ["NO_SPANS", "OpenSpan", "Spans"]

Kind = Literal["CONSUMER", "PRODUCER", "CLIENT"]
Attributes = Mapping[str, str | int]


class OpenSpan:
    """A span that has not ended."""

    def __init__(self, span: Span) -> None:
        self._span = span

    @property
    def context(self) -> TraceContext | None:
        """What a message carries on; None where the span belongs to no trace."""
        own = self._span.get_span_context()
        parent = traceparent(own.trace_id, own.span_id, own.trace_flags)
        return TraceContext.of(parent, own.trace_state.to_header().encode()) if own.is_valid else None

    def end(self, error: str | None = None) -> None:
        """`error`: what went wrong, if anything did."""
        if error is not None:
            from opentelemetry.trace import Status, StatusCode

            self._span.set_status(Status(StatusCode.ERROR, error))
        self._span.end()


class Spans:
    """Starts spans; does nothing without a tracer."""

    def __init__(self, tracer: Tracer | None = None) -> None:
        self._tracer = tracer

    @property
    def enabled(self) -> bool:
        return self._tracer is not None

    def start(
        self,
        name: str,
        kind: Kind,
        parent: TraceContext | None,
        attributes: Attributes,
        links: Iterable[TraceContext] = (),
    ) -> OpenSpan | None:
        """A span below `parent`, or of a trace of its own; None without a tracer."""
        if self._tracer is None:
            return None
        from opentelemetry import trace
        from opentelemetry.context import Context

        above = Context()  # not what happens to be current in this thread
        if parent is not None:
            above = trace.set_span_in_context(trace.NonRecordingSpan(_remote(parent)), above)
        return OpenSpan(
            self._tracer.start_span(
                name,
                context=above,
                kind=trace.SpanKind[kind],
                attributes=dict(attributes),
                links=[trace.Link(_remote(link)) for link in links],
            )
        )


NO_SPANS: Final = Spans()


def _remote(trace_context: TraceContext) -> SpanContext:
    from opentelemetry.trace import SpanContext, TraceFlags, TraceState

    return SpanContext(
        trace_context.trace_id,
        trace_context.span_id,
        is_remote=True,
        trace_flags=TraceFlags(trace_context.flags),
        trace_state=TraceState.from_header([trace_context.state.decode()]) if trace_context.state else None,
    )
