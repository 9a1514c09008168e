"""The output of the demo: airlines by month, threshold events, and the comparison with the source data."""

from __future__ import annotations

from decimal import Decimal

import polars as pl
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from meterfold_cli import console
from meterfold_cli.demo.sending import ORG
from meterfold_local.errors import StackError
from meterfold_schemas.events import ThresholdEvent
from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.topics import Topics
from meterfold_sink.client import Client

_SUMMARIES = """
SELECT metric_key, subject_id, period_start AS month, total_quantity AS total
FROM usage_monthly
WHERE org_id = {org:String}
ORDER BY metric_key, subject_id, month
"""
SHOWN_EVENTS = 12


def monthly_totals(client: Client) -> pl.DataFrame:
    """The view usage_monthly: metric_key, subject_id, month, total (Decimal)."""
    return pl.DataFrame(client.query(_SUMMARIES, {"org": ORG})).with_columns(
        pl.col("metric_key", "subject_id").cast(pl.String)
    )


def differences(found: pl.DataFrame, expected: pl.DataFrame) -> list[str]:
    """Where ClickHouse and polars disagree, in words; empty when they agree to the digit."""
    keys = ["metric_key", "subject_id", "month"]
    both = found.select(*keys, pl.col("total").alias("found")).join(
        expected.select(*keys, pl.col("total").cast(pl.Decimal(38, 9)).alias("expected")),
        on=keys,
        how="full",
        coalesce=True,
    )
    wrong = both.filter(pl.col("found").cast(pl.Decimal(38, 9)).ne_missing(pl.col("expected")))
    return [
        f"{metric} of {airline} in {month:%Y-%m}: ClickHouse {seen}, polars {wanted}"
        for metric, airline, month, seen, wanted in wrong.select(*keys, "found", "expected").iter_rows()
    ]


def show_months(found: pl.DataFrame, names: dict[str, str]) -> None:
    """Flights of each airline by month, and its miles and longest flight over all."""
    flights = found.filter(pl.col("metric_key") == "flights")
    months = flights["month"].unique().sort().to_list()
    cells = flights.select("subject_id", "month", "total").iter_rows()
    counts = {(airline, month): total for airline, month, total in cells}
    miles = _over_all(found, "miles", pl.col("total").sum())
    longest = _over_all(found, "air_minutes", pl.col("total").max())
    rows = [
        [
            names.get(airline, airline),
            *(_whole(counts.get((airline, month))) for month in months),
            _whole(miles.get(airline)),
            _whole(longest.get(airline)),
        ]
        for airline in flights["subject_id"].unique().sort().to_list()
    ]
    headers = ["airline (flights by month, UTC)", *(f"{month:%y-%m}" for month in months), "miles", "longest, min"]
    console.table(headers, rows)


def read_threshold_events(settings: KafkaSettings, partitions: int) -> list[ThresholdEvent]:
    """Every threshold event, committed ones only, in order of time and id."""
    names = Topics(settings.topic_prefix)
    topics = (names.threshold_approaching, names.threshold_exceeded, names.threshold_cleared)
    wanted = [TopicPartition(topic, partition, OFFSET_BEGINNING) for topic in topics for partition in range(partitions)]
    reader = Consumer(
        settings.client(
            **{
                "group.id": "meterfold-demo-reader",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
            }
        )
    )
    events: list[ThresholdEvent] = []
    open_partitions = {(position.topic, position.partition) for position in wanted}
    try:
        reader.assign(wanted)
        while open_partitions:
            message = reader.poll(20.0)
            if message is None:
                raise StackError("the threshold topics could not be read to their end within 20 s")
            error = message.error()
            if error is None:
                events.append(ThresholdEvent.from_bytes(message.value() or b""))
            elif error.code() == KafkaError._PARTITION_EOF:
                open_partitions.discard((message.topic() or "", message.partition() or 0))
            else:
                raise StackError(f"the threshold topics cannot be read: {error.str()}")
    finally:
        reader.close()
    return sorted(events, key=lambda event: (event.occurred_at, event.event_id))


def show_events(events: list[ThresholdEvent], thresholds: dict[str, str]) -> None:
    rows = [
        [
            str(event.event_type),
            thresholds.get(event.threshold_id, event.threshold_id),
            event.subject_id,
            "lifetime" if event.period_end is None else f"{event.period_start:%Y-%m}",
            _whole(event.actual_value),
            _whole(event.threshold),
        ]
        for event in events[:SHOWN_EVENTS]
    ]
    console.table(["event", "threshold", "airline", "period", "value", "threshold at"], rows)
    if len(events) > SHOWN_EVENTS:
        console.say(f"... and {len(events) - SHOWN_EVENTS} more")


def _over_all(found: pl.DataFrame, metric: str, over_all: pl.Expr) -> dict[str, Decimal]:
    part = found.filter(pl.col("metric_key") == metric).group_by("subject_id").agg(over_all)
    return dict(part.iter_rows())


def _whole(value: Decimal | None) -> object:
    return None if value is None else int(value)
