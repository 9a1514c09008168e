"""The probes of a fold worker. Reads FoldStatus only; counters start with the process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import get_args

from prometheus_client import Metric

from meterfold_processor.fold.status import FoldStatus
from meterfold_processor.probes.families import counter, gauge, histogram
from meterfold_processor.probes.progress import PartitionPosition
from meterfold_processor.probes.verdict import Observation
from meterfold_schemas.errors import RejectReason
from meterfold_schemas.periods import MICROS_PER_SECOND

_MEMORY = {
    "subjects": ("subjects", "Subjects in memory."),
    "windows": ("open_windows", "Windows in memory."),
    "identities": ("remembered_identities", "Identities of counted events in the duplicate filters."),
    "partitions_loading": (
        "loading_partitions",
        "Partitions whose identities are not all in memory yet: what is missing is looked up for each batch.",
    ),
    "pending": ("pending_records", "Counted records that ClickHouse has not acknowledged yet."),
}


class FoldSubject:
    name = "fold"
    partitioned = True

    def __init__(self, status: FoldStatus, clock: Callable[[], float] = time.time) -> None:
        """`clock` gives the wall clock in UTC seconds, which the brokers' stamps are compared with."""
        self._status = status
        self._clock = clock

    def observe(self) -> Observation:
        status, membership = self._status, self._status.membership.seen
        positions, holds, reached = status.positions, dict(status.holds), dict(status.log_ends)
        ends = {} if membership is None else membership.ends
        return Observation(
            {
                partition: _place(
                    positions.get(partition), ends.get(partition), reached.get(partition), holds.get(partition)
                )
                for partition in status.partitions
            },
            dict(status.errors),
            membership,
            status.rejections.recent(),
        )

    def metrics(self) -> Iterator[Metric]:
        status = self._status
        yield counter("fold_consumed_messages", "Messages read from usage.recorded.", status.consumed)
        yield counter("fold_counted_events", "Events that were counted.", status.counted)
        yield counter("fold_duplicate_events", "Events whose identity was counted before.", status.duplicates)
        # With a zero before the first one: a rate does not see a counter that begins above zero.
        reasons = {**dict.fromkeys(get_args(RejectReason), 0), **status.reasons}
        yield counter("fold_rejected_messages", "Messages that were rejected.", reasons, "reason")
        yield counter("fold_flushes", "Completed flushes.", status.flushes)
        yield histogram("fold_flush_step_seconds", "Duration of a step of a flush.", dict(status.durations), "step")
        yield gauge("fold_last_flush_age_seconds", "Time since the last completed flush.", status.seconds_since_flush())
        yield histogram(
            "fold_arrival_to_readable_seconds",
            "From the arrival of the newest event of a flush until it can be read in ClickHouse.",
            status.readable,
        )
        yield histogram(
            "fold_recorded_to_readable_seconds",
            "From the timestamp of the newest event of a flush until it can be read in ClickHouse.",
            status.recorded,
        )
        now = self._clock()
        yield gauge(
            "fold_freshness_seconds",
            "Age of the newest event that can be read in ClickHouse.",
            {partition: max(0.0, now - stamp / MICROS_PER_SECOND) for partition, stamp in dict(status.stamps).items()},
            "partition",
        )
        started, until = status.backup or (None, None)
        yield gauge(
            "fold_backup_age_seconds", "Age of the newest backup.", None if started is None else max(0.0, now - started)
        )
        yield gauge(
            "fold_backup_left_seconds",
            "Time until Kafka deletes the first event that the newest backup needs; negative: it may have.",
            None if until is None else until - now,
        )
        yield counter(
            "fold_stage_cpu_seconds", "CPU time of the worker's own thread.", dict(status.stages.seconds), "stage"
        )
        memory = dict(status.memory) if status.positions else {}
        for key, (name, text) in _MEMORY.items():
            yield gauge(f"fold_{name}", text, memory.get(key, 0))
        yield gauge(
            "fold_remembered_identities_bytes",
            "Memory of the duplicate filters.",
            memory.get("identity_bytes", 0),
        )


def _place(
    position: int | None, end: int | None, reached: tuple[int, int] | None, held: str | None
) -> PartitionPosition:
    """An end that was reached counts as the position when everything before it is flushed: the last event of a log can
    be followed by transaction markers, which no position passes."""
    if position is not None and reached is not None and held is None:
        end_reached, flushed = reached
        if position >= flushed:
            position = max(position, end_reached)
        end = end_reached if end is None else max(end, end_reached)
    return PartitionPosition(position, end, None if held is None else f"unknown schema {held}")
