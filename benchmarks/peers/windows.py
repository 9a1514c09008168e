"""The table that every peer writes its windows to, and the comparison with the oracle."""

from __future__ import annotations

import polars as pl

import backlog
from meterfold_sink.client import Client

__all__ = ["SUBJECT", "complete", "copied", "create", "differences", "folded", "stored_windows"]

SUBJECT = ("org_id", "metric_key", "subject_type", "subject_id")

# A newer state of a window has counted more events: its count is the version.
_TABLE = """
CREATE TABLE windows (
    org_id LowCardinality(String), metric_key LowCardinality(String), subject_type LowCardinality(String),
    subject_id String, period_type Enum8('hourly' = 1, 'daily' = 2, 'monthly' = 3, 'lifetime' = 4),
    period_start DateTime('UTC'), record_count Int64, sum Decimal(38, 9), min Decimal(38, 9), max Decimal(38, 9)
) ENGINE = ReplacingMergeTree(record_count)
ORDER BY (period_type, org_id, metric_key, subject_type, subject_id, period_start)
"""


def create(client: Client) -> None:
    client.command(_TABLE)


def complete(client: Client, counted: int) -> bool:
    """Whether all four periods hold every counted event. The small lifetime windows are asked first."""
    sql = "SELECT toInt64(sum(record_count)) FROM windows FINAL WHERE period_type "
    return bool(client.value(f"{sql} = 'lifetime'") == counted and client.value(f"{sql} != 'lifetime'") == 3 * counted)


def folded(client: Client, events: int) -> bool:
    """The same for Meterfold's own tables: its progress rows are written after the windows."""
    sql = "SELECT toInt64(sum(counted + duplicates + rejected)) FROM fold_progress FINAL"
    return bool(client.value(sql) == events)


def copied(client: Client, events: int) -> bool:
    return bool(client.value("SELECT toInt64(count()) FROM usage_records") >= events)


def stored_windows(client: Client, table: str) -> pl.DataFrame:
    """Key, period_type, period_start, count, sum, min, max of every window of `windows` or `usage_windows`."""
    keys = pl.DataFrame(
        [(key, *backlog.subject(key)) for key in range(backlog.KEYS)], schema=["key", *SUBJECT], orient="row"
    )
    found = pl.DataFrame(
        client.query(
            f"SELECT {', '.join(SUBJECT)}, toString(period_type) AS period_type, "
            "toDateTime64(period_start, 6, 'UTC') AS period_start, record_count AS count, sum, min, max "
            f"FROM {table} FINAL"
        )
    )
    return (
        found.with_columns(pl.col(SUBJECT).cast(pl.String), pl.col("sum", "min", "max").cast(pl.Int64))
        .join(keys, on=SUBJECT, how="left")
        .drop(SUBJECT)
    )


def differences(found: pl.DataFrame, expected: pl.DataFrame) -> str:
    """Empty if both hold the same windows to the digit; otherwise what differs."""
    names = expected.columns
    expected = expected.cast({name: dtype for name, dtype in found.schema.items() if name in names})
    missing = expected.join(found, on=names, how="anti", nulls_equal=True)
    wrong = found.select(names).join(expected, on=names, how="anti", nulls_equal=True)
    if missing.is_empty() and wrong.is_empty() and found.height == expected.height:
        return ""
    examples = f"expected {missing.head(2).rows()}, found {wrong.head(2).rows()}"
    return f"{missing.height} windows are missing or differ, {wrong.height} are not the oracle's: {examples}"
