"""Trace context end to end, on real servers and real processes: from a span of the application, by the headers of
Kafka, to the threshold event and the spans of the workers."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from confluent_kafka import Message
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from meterfold import AsyncMeter, Meter
from meterfold_local.process import ManagedProcess
from meterfold_schemas.events import ThresholdEvent
from meterfold_schemas.periods import Period
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.topics import Topics
from meterfold_schemas.traces import TraceContext
from meterfold_schemas.usage import UsageRecorded
from meterfold_service import Metering
from support import consume_all, eventually
from support.cli import answer, running
from support.collector import Collected, Collector, collector

DEADLINE = 120


@pytest.fixture
def spans() -> Iterator[Collector]:
    with collector() as found:
        yield found


@pytest.fixture
def tracer(spans: Collector) -> Iterator[trace.Tracer]:
    provider = TracerProvider(resource=Resource.create({"service.name": "application"}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{spans.url}/v1/traces")))
    yield provider.get_tracer("application")
    provider.shutdown()


def printed(process: ManagedProcess) -> list[dict[str, Any]]:
    """What OpenTelemetry's console exporter has printed."""
    text, decoder = process.output(), json.JSONDecoder()
    found = []
    for start in re.finditer(r'^\{\n    "name"', text, re.MULTILINE):
        try:
            found.append(decoder.raw_decode(text, start.start())[0])
        except json.JSONDecodeError:  # still being written
            continue
    return found


def traces_by_id(messages: list[Message], kind: Any) -> dict[str, TraceContext | None]:
    events = [(kind.from_bytes(message.value()), TraceContext.read(message.headers())) for message in messages]
    return {event.id if kind is UsageRecorded else event.subject_id: found for event, found in events}


def test_a_threshold_event_belongs_to_the_trace_of_the_record_call_that_crossed_it(
    stack_environment: dict[str, str],
    settings_file: Path,
    kafka_settings: KafkaSettings,
    clickhouse_settings: ClickHouseSettings,
    tracer: trace.Tracer,
    spans: Collector,
    tmp_path: Path,
) -> None:
    exporting = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": spans.url,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    both = {**exporting, "OTEL_TRACES_EXPORTER": "otlp,console"}
    environment = {**stack_environment, "METERFOLD_FOLD_BATCH_SECONDS": "0.05", "METERFOLD_FOLD_TRACES": "true"}
    answer("migrate", "--partitions", "2", env=environment)
    topics = Topics(kafka_settings.topic_prefix)
    with (
        running("fold", env={**environment, **both}, folder=tmp_path, ready="fold: ready") as fold,
        running("check", env={**environment, **exporting}, folder=tmp_path, ready="check: ready"),
        Metering(kafka=kafka_settings, clickhouse=clickhouse_settings, wait_seconds=DEADLINE) as metering,
        Meter(config=settings_file, propagate_trace="on") as meter,
        Meter(config=settings_file, propagate_trace="off") as silent,
    ):
        metering.metrics.define(key="api.calls", name="API calls", unit="call")
        metering.thresholds.create(metric_key="api.calls", name="quota", threshold=10, period_type=Period.LIFETIME)
        with tracer.start_as_current_span("earlier request"):
            meter.record("api.calls", ("user", "ada"), 4, id="below")
            meter.flush()
        with tracer.start_as_current_span("request") as request:
            meter.record("api.calls", ("user", "ada"), 6, id="crosses")
            rows = [{"metric_key": "api.calls", "subject": ("user", "list"), "quantity": 1, "id": "list"}]
            meter.record_batch(rows).raise_refused()
            frame = pl.DataFrame(
                {"metric_key": ["api.calls"], "subject_type": ["user"], "subject_id": ["frame"], "id": ["frame"]}
            )
            meter.record_batch(frame).raise_refused()
            silent.record("api.calls", ("user", "quiet"), 20, id="quiet")

            async def asynchronously() -> None:
                async with AsyncMeter(config=settings_file) as their:
                    with tracer.start_as_current_span("task"):
                        await their.record("api.calls", ("user", "task"), 1, id="task")

            asyncio.run(asynchronously())
            meter.flush()
            silent.flush()
        meter.record("api.calls", ("user", "list"), 1, id="outside")
        meter.flush()

        wanted = request.get_span_context()
        recorded = traces_by_id(consume_all(kafka_settings, topics.usage_recorded), UsageRecorded)
        assert {name: found and found.trace_id for name, found in recorded.items() if name != "below"} == {
            **dict.fromkeys(["crosses", "list", "frame", "task"], wanted.trace_id),
            **dict.fromkeys(["quiet", "outside"]),
        }
        assert recorded["crosses"] is not None
        assert recorded["crosses"].span_id == wanted.span_id

        def exceeded() -> list[Message]:
            return consume_all(kafka_settings, topics.threshold_exceeded)

        eventually(lambda: len(exceeded()) == 2, DEADLINE, "both subjects are above their threshold")
        carried = traces_by_id(exceeded(), ThresholdEvent)
        assert carried["ada"] is not None
        assert carried["ada"].trace_id == wanted.trace_id
        assert carried["quiet"] is not None
        assert carried["quiet"].trace_id != wanted.trace_id

        # The header names the checker's span, which is below the application's; a collector has them all.
        judged = f"judge {topics.threshold_exceeded}"
        eventually(lambda: len(spans.named(judged)) == 2, DEADLINE, "the checker exports its spans")
        own = next(span for span in spans.named(judged) if span.span == carried["ada"].span_id)
        assert (own.service, own.trace, own.parent) == ("meterfold-check", wanted.trace_id, wanted.span_id)

        def flushes() -> list[Collected]:
            return [span for span in spans.named(f"process {topics.usage_recorded}") if wanted.trace_id in span.links]

        eventually(flushes, DEADLINE, "a flush of the fold is linked to the request")
        assert {span.service for span in flushes()} == {"meterfold-fold"}
        (request_span,) = [span for span in spans.spans if span.span == wanted.span_id]
        assert (request_span.service, request_span.trace) == ("application", wanted.trace_id)
        assert spans.paths == {"/v1/traces"}

        def linked() -> set[int]:
            found = [span for span in printed(fold) if span["name"] == f"process {topics.usage_recorded}"]
            return {int(link["context"]["trace_id"], 16) for span in found for link in span["links"]}

        eventually(lambda: wanted.trace_id in linked(), DEADLINE, "the second exporter has the flush as well")
