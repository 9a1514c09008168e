"""Which headers an event gets, and that an application without a trace pays for none."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Producer
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState

from meterfold import InvalidSettings, Meter
from meterfold.tracing import producer_class
from meterfold_schemas.traces import TraceContext

MESSAGE = ("usage.recorded", b"value", b"key", -1, None)


class Kept:
    """In place of librdkafka's producer: keeps how it was called."""

    def __init__(self) -> None:
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def produce(self, *message: Any, **more: Any) -> None:
        self.calls.append((message, more))


@pytest.fixture
def traced() -> Kept:
    kind: Any = producer_class("on", Kept)  # type: ignore[arg-type]
    assert kind is not Kept
    made: Kept = kind()
    return made


@pytest.fixture
def tracer() -> Iterator[trace.Tracer]:
    provider = TracerProvider()
    yield provider.get_tracer("application")
    provider.shutdown()


def test_an_event_carries_the_span_in_which_it_is_recorded(traced: Kept, tracer: trace.Tracer) -> None:
    with tracer.start_as_current_span("request") as span:
        traced.produce(*MESSAGE)
        with tracer.start_as_current_span("inner") as inner:
            traced.produce(*MESSAGE)
    traced.produce(*MESSAGE)
    assert [message for message, _ in traced.calls] == [MESSAGE] * 3
    found = [TraceContext.read(more.get("headers")) for _, more in traced.calls]
    own, below = span.get_span_context(), inner.get_span_context()
    assert found[0] is not None
    assert found[1] is not None
    assert (found[0].trace_id, found[0].span_id) == (own.trace_id, own.span_id)
    assert (found[1].trace_id, found[1].span_id) == (own.trace_id, below.span_id)
    assert traced.calls[2][1] == {}


def test_a_trace_that_is_not_sampled_and_its_state_are_carried_on(traced: Kept) -> None:
    context = SpanContext(7, 9, is_remote=True, trace_flags=TraceFlags(0), trace_state=TraceState([("a", "1")]))
    with trace.use_span(NonRecordingSpan(context)):
        traced.produce(*MESSAGE)
    ((_, more),) = traced.calls
    assert more["headers"] == [
        ("traceparent", b"00-00000000000000000000000000000007-0000000000000009-00"),
        ("tracestate", b"a=1"),
    ]


def test_off_is_the_producer_itself() -> None:
    assert producer_class("off") is Producer
    assert issubclass(producer_class("auto"), Producer)
    assert producer_class("auto") is not Producer


def test_without_opentelemetry_auto_is_the_producer_itself_and_on_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    assert producer_class("auto") is Producer
    with pytest.raises(InvalidSettings, match=r"pip install 'meterfold\[otel\]'"):
        Meter("127.0.0.1:1", propagate_trace="on")


def test_a_wrong_mode_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="propagate_trace"):
        Meter("127.0.0.1:1", propagate_trace="always")  # type: ignore[arg-type]


def test_importing_the_sdk_does_not_import_opentelemetry() -> None:
    code = "import sys, meterfold; sys.exit('opentelemetry' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
