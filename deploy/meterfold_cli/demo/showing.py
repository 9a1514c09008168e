"""The output of the demo: airlines by month, threshold events, and the comparison with the source data."""

from __future__ import annotations

from contextlib import closing
from decimal import Decimal

import polars as pl

from meterfold_cli import console
from meterfold_local.errors import StackError
from meterfold_processor.kafka.offsets import topic_bounds
from meterfold_processor.kafka.reader import TopicReader
from meterfold_schemas.errors import MeterfoldError
from meterfold_schemas.events import ThresholdEvent
from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.topics import Topics

SHOWN_EVENTS = 12


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
    events: list[ThresholdEvent] = []
    try:
        starts, ends = topic_bounds(settings, dict.fromkeys(topics, partitions), read_committed=True)
        with closing(TopicReader(settings, "meterfold-demo-reader", stuck_seconds=20.0)) as reader:
            for batch in reader.scan(starts, ends):
                events.extend(ThresholdEvent.from_bytes(message.value() or b"") for message in batch)
    except MeterfoldError as error:
        raise StackError(f"the threshold topics cannot be read: {error}") from error
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
