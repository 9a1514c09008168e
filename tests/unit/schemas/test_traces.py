"""Trace context in Kafka headers, against OpenTelemetry's own propagator."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from meterfold_schemas.traces import TraceContext, traceparent

PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 255))
def test_what_is_written_is_read_back_here_and_by_opentelemetry(trace_id: int, span_id: int, flags: int) -> None:
    value = traceparent(trace_id, span_id, flags)
    found = TraceContext.of(value, b"vendor=1")
    assert found is not None
    assert (found.trace_id, found.span_id, found.flags) == (trace_id, span_id, flags)
    carrier = {name: text.decode() for name, text in found.headers}
    theirs = trace.get_current_span(TraceContextTextMapPropagator().extract(carrier)).get_span_context()
    assert (theirs.trace_id, theirs.span_id, theirs.trace_flags) == (trace_id, span_id, flags)
    assert theirs.trace_state.to_header() == "vendor=1"


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        PARENT[:-1],
        PARENT + b"0",
        PARENT + b"\n",
        PARENT.upper(),
        b"01" + PARENT[2:],
        b"00-" + b"0" * 32 + PARENT[35:],
        PARENT[:36] + b"0" * 16 + b"-01",
        b"\xff" * 55,
    ],
)
def test_what_is_not_a_traceparent_is_ignored(value: bytes | None) -> None:
    assert TraceContext.of(value) is None
    assert TraceContext.read([("other", b"1"), ("traceparent", value)]) is None


def test_a_wrong_tracestate_is_dropped_and_the_trace_stays() -> None:
    for wrong in (b"", b"a=\xc3\xa9", b"a=1\n", b"a" * 513, None):
        found = TraceContext.of(PARENT, wrong)
        assert found is not None
        assert found.headers == (("traceparent", PARENT),)


def test_reading_headers() -> None:
    assert TraceContext.read(None) is None
    assert TraceContext.read([]) is None
    found = TraceContext.read([("a", None), ("tracestate", b"k=v"), ("traceparent", PARENT)])
    assert found == TraceContext(PARENT, b"k=v")
    assert found.headers == (("traceparent", PARENT), ("tracestate", b"k=v"))
