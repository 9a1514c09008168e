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
from opentelemetry.sdk.trace import TracerProvider

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

DEADLINE = 120


@pytest.fixture
def tracer() -> Iterator[trace.Tracer]:
    provider = TracerProvider()
    yield provider.get_tracer("application")
    provider.shutdown()


def spans_of(process: ManagedProcess) -> list[dict[str, Any]]:
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
    tmp_path: Path,
) -> None:
    exporting = {"OTEL_TRACES_EXPORTER": "console", "OTEL_BSP_SCHEDULE_DELAY": "100"}
    environment = {**stack_environment, "METERFOLD_FOLD_BATCH_SECONDS": "0.05", "METERFOLD_FOLD_TRACES": "true"}
    answer("migrate", "--partitions", "2", env=environment)
    topics = Topics(kafka_settings.topic_prefix)
    with (
        running("fold", env={**environment, **exporting}, folder=tmp_path, ready="fold: ready") as fold,
        running("check", env={**environment, **exporting}, folder=tmp_path, ready="check: ready") as checker,
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

        # The header names the checker's span, which is below the application's.
        eventually(
            lambda: any(span["name"] == f"judge {topics.threshold_exceeded}" for span in spans_of(checker)),
            DEADLINE,
            "the checker exports its spans",
        )
        judged = {
            int(span["context"]["span_id"], 16): span
            for span in spans_of(checker)
            if span["name"] == f"judge {topics.threshold_exceeded}"
        }
        own = judged[carried["ada"].span_id]
        assert int(own["context"]["trace_id"], 16) == wanted.trace_id
        assert int(own["parent_id"], 16) == wanted.span_id
        assert own["resource"]["attributes"]["service.name"] == "meterfold-check"

        def linked() -> set[int]:
            flushes = [span for span in spans_of(fold) if span["name"] == f"process {topics.usage_recorded}"]
            return {int(link["context"]["trace_id"], 16) for span in flushes for link in span["links"]}

        eventually(lambda: wanted.trace_id in linked(), DEADLINE, "a flush of the fold is linked to the request")
