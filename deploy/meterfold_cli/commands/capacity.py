"""`meterfold capacity`: partitions, workers, memory and disk for a load. No server is needed."""

from __future__ import annotations

from typing import Annotated

import typer

from meterfold_cli import console
from meterfold_cli.installation import JsonOption


def capacity(
    events_per_second: Annotated[float, typer.Option(help="Events per second, on average.", show_default=False)],
    subjects: Annotated[int, typer.Option(help="Subjects that are active in a month.", show_default=False)],
    metrics_per_subject: Annotated[float, typer.Option(help="Metrics that a subject uses, on average.")] = 1,
    identities_days: Annotated[float, typer.Option(help="Days that ids are remembered: the horizon and a week.")] = 43,
    retention_days: Annotated[float, typer.Option(help="Days that `usage_records` are kept.")] = 100,
    topic_days: Annotated[float, typer.Option(help="Days that the topic `usage.recorded` is kept.")] = 14,
    worker_memory_gb: Annotated[float, typer.Option(help="Memory that a worker may have, in GB.")] = 32,
    as_json: JsonOption = False,
) -> None:
    """Estimate partitions, workers, memory and disk for a load.

    The estimate takes the events as spread evenly over subjects and time, and uses figures that were measured with the
    benchmarks on one machine; docs/capacity.md explains them. No server is needed.

    Example: meterfold capacity --events-per-second 5000 --subjects 2000000
    """
    from meterfold_service.capacity import Load, plan

    load = Load(
        events_per_second=events_per_second,
        subjects=subjects,
        metrics_per_subject=metrics_per_subject,
        identities_days=identities_days,
        retention_days=retention_days,
        topic_days=topic_days,
        worker_memory_gb=worker_memory_gb,
    )
    found = plan(load)
    if as_json:
        console.emit(found.to_dict())
        return
    rows = [
        ["partitions", f"{found.partitions:,}", "fixed once events are there; planned for growth"],
        ["workers", f"{found.workers:,}", f"{found.worker_cores:.2f} cores in use on average, all together"],
        ["memory of each worker", _size(found.worker_memory), ""],
        ["memory of a checker", _size(found.checker_memory), "with a threshold on every subject"],
        ["ClickHouse", f"{found.clickhouse_cores:.2f} cores", "inserts and merges, without queries"],
        ["Kafka", f"{found.kafka_cores:.2f} cores", "one copy"],
        ["usage_records", f"{_size(found.records_disk_per_month)} per month", f"{found.events_per_month:,} rows"],
        ["usage_windows", f"{_size(found.windows_disk_per_month)} per month", f"{found.windows_per_month:,} rows"],
        ["disk of ClickHouse", _size(found.clickhouse_disk_in_a_year), "one copy, after a year, with room for merges"],
        ["disk of Kafka", _size(found.kafka_disk), "one copy"],
    ]
    console.table(["what", "estimate", "note"], rows)


def _size(size: int) -> str:
    """Bytes as MB, GB or TB, of 1,000 each."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9)):
        if size >= factor:
            return f"{size / factor:,.1f} {unit}"
    return f"{size / 1e6:,.0f} MB"
