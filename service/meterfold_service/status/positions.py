"""Where messages wait: behind the progress rows, and behind the offsets of the checker and of a notifier."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from meterfold_service.status.clickhouse_view import ClickHouseView
from meterfold_service.status.kafka_view import KafkaView, LogBounds, PendingHead, PendingPositions

__all__ = ["age", "next_of", "positions"]


def positions(kafka: KafkaView, clickhouse: ClickHouseView) -> PendingPositions:
    """Where to look for messages that wait."""
    known = clickhouse.error is None
    return PendingPositions(
        _event_positions(kafka, clickhouse),
        _window_positions(kafka),
        _unread(kafka.mirrored, clickhouse.mirrored) if known else {},
        _unread(kafka.notified, clickhouse.planned) if known else {},
    )


def _unread(
    logs: Mapping[str, Mapping[int, LogBounds]], read: Mapping[str, Mapping[int, int]]
) -> dict[str, dict[int, int]]:
    """The stored offsets before the ends of their logs."""
    return {
        topic: {number: at for number, log in found.items() if (at := next_of(read, topic, number, log)) < log.end}
        for topic, found in logs.items()
    }


def next_of(read: Mapping[str, Mapping[int, int]], topic: str, partition: int, log: LogBounds) -> int:
    """Below the log's start it is read from the start."""
    return max(read.get(topic, {}).get(partition, log.start), log.start)


def _event_positions(kafka: KafkaView, clickhouse: ClickHouseView) -> dict[int, int]:
    found = {}
    for number, log in kafka.recorded.items():
        progress = clickhouse.progress.get(number)
        at = progress.next_offset if progress else log.start
        if log.start <= at < log.end and clickhouse.error is None:
            found[number] = at
    return found


def _window_positions(kafka: KafkaView) -> dict[int, int]:
    """Below the log's start it begins at the start, as the checker does."""
    return {
        number: at
        for number, log in kafka.windows.items()
        if (at := max(kafka.checked.get(number, log.start), log.start)) < log.end
    }


def age(waiting: PendingHead | None, now: datetime) -> float | None:
    """Seconds since a message arrived."""
    if waiting is None or waiting.stamp is None:
        return None
    return round(max(0.0, now.timestamp() - waiting.stamp), 1)
