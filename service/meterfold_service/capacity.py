"""What an installation of a given load needs: partitions, workers, memory and disk. Pure arithmetic.

`Measured` has every figure that a plan is computed from, with the command that measures it; the tables of
docs/capacity.md are made by the same functions (benchmarks/capacity_table.py).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from meterfold_schemas.errors import InvalidSettings

__all__ = ["MEASURED", "Capacity", "Figure", "Load", "Measured", "plan"]

MONTH_DAYS: Final = 30.5
MOST: Final = 1e12
_DAY_SECONDS: Final = 86_400
_MONTH_HOURS: Final = MONTH_DAYS * 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is metered. `identities_days`: how long ids are remembered: the horizon, and up to a week more, because a
    table of ids holds a week. `retention_days`: how long usage_records are kept; `topic_days`: how long usage.recorded
    is. Raises InvalidSettings for a number that is not positive."""

    events_per_second: float
    subjects: int
    identities_days: float = 43
    retention_days: float = 100
    topic_days: float = 14
    metrics_per_subject: float = 1
    worker_memory_gb: float = 32
    """Memory that a worker may have; more workers are planned for what does not fit."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 < value <= MOST:
                raise InvalidSettings(f"{name} is {value:g}; give a number above 0 and at most {MOST:g}")


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number, and the command that measures it."""

    value: float
    unit: str
    title: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The figures of one machine with two shared cores. CPU in microseconds, sizes in bytes."""

    worker_cpu: Figure = Figure(
        10.0, "µs", "CPU of a worker per event, with millions of subjects", 'make bench ARGS="--growth"'
    )
    clickhouse_cpu: Figure = Figure(
        2.7, "µs", "CPU of ClickHouse per event while the fold writes", 'make bench ARGS="--only sparse"'
    )
    merge_cpu: Figure = Figure(
        1.5, "µs", "CPU of ClickHouse per event to merge its rows once", "python benchmarks/disk.py"
    )
    kafka_cpu: Figure = Figure(0.5, "µs", "CPU of Kafka per event", 'make bench ARGS="--only sparse"')
    worker_memory: Figure = Figure(
        1.1e9, "bytes", "memory of a worker with few subjects", 'make bench ARGS="--only sparse"'
    )
    subject_memory: Figure = Figure(
        385, "bytes", "memory of a worker per subject with its four open windows", "python benchmarks/growth_core.py"
    )
    identity_memory: Figure = Figure(
        2.6, "bytes", "memory of a worker per remembered id", 'make bench ARGS="--only identities"'
    )
    new_identity_memory: Figure = Figure(
        8, "bytes", "memory of a worker per id of the newest day", 'make bench ARGS="--only identities"'
    )
    checked_memory: Figure = Figure(
        60, "bytes", "memory of a checker per window that a threshold watches", 'make bench ARGS="--only checker"'
    )
    record_disk: Figure = Figure(
        44, "bytes", "a row of usage_records after merges, with a random id", "python benchmarks/disk.py"
    )
    window_disk: Figure = Figure(38, "bytes", "a row of usage_windows after merges", "python benchmarks/disk.py")
    unmerged: Figure = Figure(1.3, "times", "size of usage_windows before merges", "python benchmarks/disk.py")
    event_log: Figure = Figure(
        76, "bytes", "an event on usage.recorded, compressed with lz4", "python benchmarks/disk.py"
    )
    touched_log: Figure = Figure(77, "bytes", "usage.windows per event", "python benchmarks/disk.py")

    def figures(self) -> list[Figure]:
        return [getattr(self, field.name) for field in fields(self)]


MEASURED: Final = Measured()

WORKER_SHARE: Final = 0.5
"""Share of a core that a worker may use on average: the rest is for peaks and for catching up."""
PARTITIONS_PER_WORKER: Final = 4
"""The number of partitions is fixed, so it is planned for four times as many workers."""
LEAST_PARTITIONS: Final = 6
WINDOWS_TOPIC_DAYS: Final = 1
MERGES: Final = 6
"""How often ClickHouse merges a row: parts grow about fivefold each time, from one flush to 150 GB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """The plan. Memory and disk in bytes, `cores` on average. Disk is that of one copy: multiply it by the number of
    replicas."""

    load: Load
    partitions: int
    workers: int
    worker_cores: float
    clickhouse_cores: float
    kafka_cores: float
    worker_memory: int
    """Of each worker."""
    checker_memory: int
    """Of one checker that judges a threshold on every subject."""
    events_per_month: int
    windows_per_month: int
    """New rows of usage_windows: hourly, daily and monthly."""
    records_disk_per_month: int
    windows_disk_per_month: int
    records_disk: int
    """Of usage_records once the oldest ones expire."""
    clickhouse_disk_in_a_year: int
    """Records as kept, and a year of windows, with room for merges."""
    kafka_disk: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def plan(load: Load, measured: Measured = MEASURED) -> Capacity:
    """Events are taken as spread evenly over subjects and time, which makes the most windows."""
    rate = load.events_per_second
    subjects = load.subjects * load.metrics_per_subject
    worker_cores = rate * measured.worker_cpu.value / 1e6
    remembered = (
        rate
        * _DAY_SECONDS
        * (measured.identity_memory.value * max(0.0, load.identities_days - 1) + measured.new_identity_memory.value)
    )
    state = subjects * measured.subject_memory.value + remembered
    by_memory = math.ceil(state / max(1.0, load.worker_memory_gb * 1e9 - measured.worker_memory.value))
    workers = max(1, math.ceil(worker_cores / WORKER_SHARE), by_memory)
    partitions = max(LEAST_PARTITIONS, PARTITIONS_PER_WORKER * workers)
    events = rate * _DAY_SECONDS * MONTH_DAYS
    windows = (
        _touched(events, subjects, _MONTH_HOURS)
        + _touched(events, subjects, MONTH_DAYS)
        + _touched(events, subjects, 1)
    )
    records_disk = events / MONTH_DAYS * load.retention_days * measured.record_disk.value
    windows_disk = windows * measured.window_disk.value
    lifetime = subjects * measured.window_disk.value
    log = measured.event_log.value * load.topic_days + measured.touched_log.value * WINDOWS_TOPIC_DAYS
    return Capacity(
        load=load,
        partitions=partitions,
        workers=workers,
        worker_cores=worker_cores,
        clickhouse_cores=rate * (measured.clickhouse_cpu.value + MERGES * measured.merge_cpu.value) / 1e6,
        kafka_cores=rate * measured.kafka_cpu.value / 1e6,
        worker_memory=round(measured.worker_memory.value + state / workers),
        checker_memory=round(measured.worker_memory.value / 2 + 3 * subjects * measured.checked_memory.value),
        events_per_month=round(events),
        windows_per_month=round(windows),
        records_disk_per_month=round(events * measured.record_disk.value),
        windows_disk_per_month=round(windows_disk),
        records_disk=round(records_disk),
        clickhouse_disk_in_a_year=round((records_disk + 12 * windows_disk + lifetime) * measured.unmerged.value),
        kafka_disk=round(rate * _DAY_SECONDS * log),
    )


def _touched(events: float, subjects: float, spans: float) -> float:
    """How many of `subjects` x `spans` windows get at least one of this many events, if each event hits any of them
    alike."""
    windows = subjects * spans
    return windows * -math.expm1(-events / windows)
