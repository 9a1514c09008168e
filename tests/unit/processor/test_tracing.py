"""Spans of the workers, as OpenTelemetry's own exporter sees them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
from opentelemetry.trace import SpanKind, StatusCode

from meterfold_processor.checker import operations as ops
from meterfold_processor.checker.event_spans import EventSpans
from meterfold_processor.columns.tables import TRACES
from meterfold_processor.fold.partition import Folded
from meterfold_processor.fold.store import Progress
from meterfold_processor.fold.traces import MOST_LINKS, FlushSpans
from meterfold_processor.kafka.clients import Outgoing
from meterfold_processor.tracing import NO_SPANS, Spans
from meterfold_schemas.errors import Retryable
from meterfold_schemas.topics import Topics
from meterfold_schemas.traces import TraceContext, traceparent
from meterfold_service.notify import delivery_spans
from meterfold_service.notify.delivery_spans import UNTRACED, DeliverySpans
from meterfold_sink.notification_tries import TryRow

TOPICS = Topics("")
TRACE = TraceContext(traceparent(0xABC, 0xDEF, 1), b"vendor=1")
EVENT = Outgoing(TOPICS.threshold_exceeded, b"v", b"k", headers=(("ce_id", b"e1"), *TRACE.headers))
STATE = Outgoing(TOPICS.threshold_state, b"v", b"k", 0)


@pytest.fixture
def exported() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def spans(exported: InMemorySpanExporter) -> Iterator[Spans]:
    provider = TracerProvider(sampler=ParentBased(ALWAYS_ON))
    provider.add_span_processor(SimpleSpanProcessor(exported))
    yield Spans(provider.get_tracer("meterfold"))
    provider.shutdown()


def one(exported: InMemorySpanExporter) -> ReadableSpan:
    (span,) = exported.get_finished_spans()
    return span


def produced(spans: Spans, *messages: Outgoing, fails_at: type | None = None) -> tuple[Outgoing, ...]:
    """One transaction; the messages as the driver gets them."""
    got: list[Outgoing] = []

    def perform(operation: ops.Operation) -> Any:
        if fails_at is not None and isinstance(operation, fails_at):
            raise Retryable("the broker is gone")
        if isinstance(operation, ops.Produce):
            got.extend(operation.messages)

    driver = EventSpans(spans, TOPICS, perform)
    steps = (ops.Begin(), ops.Produce(messages), ops.FlushMessages(), ops.SendOffsets({}), ops.CommitTransaction())
    for operation in steps:
        driver.perform(operation)
    return tuple(got)


def test_a_threshold_event_is_a_span_below_the_recorded_event_and_carries_it_on(
    spans: Spans, exported: InMemorySpanExporter
) -> None:
    state, event = produced(spans, STATE, EVENT)
    span = one(exported)
    assert (span.name, span.kind) == ("judge threshold.exceeded", SpanKind.PRODUCER)
    assert span.status.status_code is StatusCode.UNSET
    assert span.parent is not None
    assert (span.parent.trace_id, span.parent.span_id) == (TRACE.trace_id, TRACE.span_id)
    assert state is STATE
    found = TraceContext.read(event.headers)
    assert found is not None
    assert (found.trace_id, found.span_id, found.state) == (TRACE.trace_id, span.context.span_id, b"vendor=1")
    assert event.headers[0] == ("ce_id", b"e1")
    assert [name for name, _ in event.headers].count("traceparent") == 1
    assert (event.topic, event.key, event.value, event.partition) == (EVENT.topic, EVENT.key, EVENT.value, -1)


def test_a_trace_that_is_not_sampled_stays_so(spans: Spans, exported: InMemorySpanExporter) -> None:
    quiet = TraceContext(traceparent(5, 6, 0))
    (event,) = produced(spans, Outgoing(TOPICS.threshold_cleared, b"v", headers=quiet.headers))
    found = TraceContext.read(event.headers)
    assert found is not None
    assert (found.trace_id, found.flags & 1) == (5, 0)
    assert exported.get_finished_spans() == ()


@pytest.mark.parametrize("step", [ops.Produce, ops.FlushMessages, ops.SendOffsets, ops.CommitTransaction])
def test_a_transaction_that_fails_ends_its_spans_with_the_error(
    step: type, spans: Spans, exported: InMemorySpanExporter
) -> None:
    with pytest.raises(Retryable):
        produced(spans, EVENT, fails_at=step)
    assert one(exported).status.description == "the broker is gone"


def test_without_a_tracer_messages_are_untouched() -> None:
    assert produced(NO_SPANS, STATE, EVENT) == (STATE, EVENT)


def folded(traces: list[bytes | None] | None) -> Folded:
    nothing = pa.table({"partition": pa.array([1, 1], pa.int32())})
    table = (
        None
        if traces is None
        else pa.Table.from_pydict({"traceparent": traces, "tracestate": [None] * len(traces)}, schema=TRACES)
    )
    return Folded(4, 1, nothing, nothing, nothing, [], nothing, Progress(4, 9, 0, 0, 0, 0, None), table)


def test_a_flush_links_the_traces_of_its_windows(spans: Spans, exported: InMemorySpanExporter) -> None:
    many = [traceparent(n + 1, 1, 1) for n in range(100)]
    with FlushSpans(spans, "usage.recorded").flush([folded([TRACE.parent, None, TRACE.parent]), folded(None)]):
        assert exported.get_finished_spans() == ()
    span = one(exported)
    assert (span.name, span.kind, span.parent) == ("process usage.recorded", SpanKind.CONSUMER, None)
    assert [link.context.trace_id for link in span.links] == [TRACE.trace_id]
    assert dict(span.attributes or {}) == {
        "messaging.system": "kafka",
        "messaging.destination.name": "usage.recorded",
        "messaging.batch.message_count": 12,
        "meterfold.partitions": "4,4",
        "meterfold.windows": 4,
    }
    exported.clear()
    with pytest.raises(Retryable), FlushSpans(spans, "usage.recorded").flush([folded(many)]):
        raise Retryable("ClickHouse is gone")
    span = one(exported)
    assert len(span.links) == MOST_LINKS
    assert span.status.description == "ClickHouse is gone"


def test_a_try_is_a_span_in_the_trace_of_its_event(
    spans: Spans, exported: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_spans, "REMEMBERED", 2)
    deliveries, now = DeliverySpans(spans), datetime.now(UTC)
    for event_id in ("e0", "e1", "e2"):
        deliveries.remember(event_id, list(TRACE.headers))
    deliveries.remember("e3", None)
    for event_id in ("e0", "e2", "e3"):
        begun = TryRow(
            occurred_at=now,
            event_id=event_id,
            channel="webhook",
            target="https://example.com/secret",
            state="sending",
            due_at=now,
            give_up_at=now,
            event_type="threshold.exceeded",
            topic="threshold.exceeded",
            partition=0,
        )
        span = deliveries.start(begun)
        assert span is not None
        span.end("status 500" if event_id == "e2" else None)
    forgotten, known, unknown = exported.get_finished_spans()
    assert (forgotten.parent, unknown.parent) == (None, None)
    assert known.parent is not None
    assert (known.context.trace_id, known.parent.span_id) == (TRACE.trace_id, TRACE.span_id)
    assert (known.name, known.status.description) == ("notify webhook", "status 500")
    assert "secret" not in str(known.to_json())
    UNTRACED.remember("e9", list(TRACE.headers))
    assert UNTRACED.start(begun) is None
