"""Migrated databases for tests: one for a file, emptied for each test, since making one takes a while."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from meterfold_local.stack import LocalStack
from meterfold_schemas.settings import ClickHouseSettings
from meterfold_sink import reads
from meterfold_sink.client import Client, connect
from meterfold_sink.migrate import migrate
from meterfold_sink.rules import FoldRules
from meterfold_sink.writers import Writer
from support.sink.rows import Record, progress_table, records_table, windows_of, windows_table

RULES = FoldRules(cluster_id="cluster", topic_id="topic", partition_count=6)


_FILLED = (
    "usage_records",
    "usage_duplicates",
    "usage_rejected",
    "rejected_redrives",
    "schema_decisions",
    "usage_windows",
    "fold_progress",
    "metric_definitions",
    "thresholds",
    "threshold_events",
    "alert_actions",
)


@contextmanager
def database(stack: LocalStack) -> Iterator[Client]:
    """A database on the shared stack."""
    settings = stack.clickhouse_settings(f"sink_{secrets.token_hex(4)}")
    with connect(settings, create_database=True) as client:
        try:
            migrate(client, RULES)
            reads.write_settings_once(client, RULES)
            yield client
        finally:
            client.command(f"DROP DATABASE {settings.database}")


def empty(client: Client) -> Client:
    """Only the stored rules stay."""
    for table in _FILLED:
        client.command(f"TRUNCATE TABLE {table}")
    return client


@contextmanager
def migrated(settings: ClickHouseSettings, rules: FoldRules = RULES) -> Iterator[Client]:
    with connect(settings) as client:
        migrate(client, rules)
        reads.write_settings_once(client, rules)
        yield client


def insert(client: Client, table: str, rows: pa.Table) -> None:
    Writer(client).insert(table, rows)


def store(client: Client, records: list[Record]) -> None:
    """The records, their windows and the progress behind them, as after a finished flush."""
    insert(client, "usage_records", records_table(records))
    insert(client, "usage_windows", windows_table(windows_of(records)))
    for partition in {record.partition for record in records}:
        offsets = [record.offset for record in records if record.partition == partition]
        insert(client, "fold_progress", progress_table(partition, max(offsets) + 1))


def rows(client: Client, sql: str, **parameters: Any) -> list[dict[str, Any]]:
    return client.rows(sql, parameters)
