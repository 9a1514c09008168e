"""What changing the stored settings reads and writes: values, the tables' TTL, and what the fold has left behind."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from meterfold_sink.positions import Span, positions_outside

if TYPE_CHECKING:
    from meterfold_sink.client import Client
    from meterfold_sink.fold_state import ProgressRow

__all__ = [
    "COMPLETE_SINCE",
    "KEPT_TABLES",
    "any_expired",
    "read_ttls",
    "records_before",
    "unfinished",
    "write_settings",
    "write_ttl",
]

KEPT_TABLES: Final = ("usage_records", "usage_duplicates", "usage_rejected", "rejected_redrives")
"""The tables that keep their rows for the record retention."""

COMPLETE_SINCE: Final = "records_complete_since"
"""The fold_settings row with the arrival time (UTC microseconds) from which usage_records is complete, although the
retention is longer now. There is none before a retention was made longer."""

_TTL: Final = re.compile(r"\bTTL toDateTime\(received_at\) \+ toIntervalSecond\((\d+)\)")


def read_ttls(client: Client) -> dict[str, int | None]:
    """Table -> seconds for which it keeps a row; None where it has no such TTL. Raises Retryable or Fatal, as every
    function here."""
    rows = client.rows(
        "SELECT name, create_table_query FROM system.tables WHERE database = {database:String}",
        {"database": client.database},
    )
    queries = {row["name"]: row["create_table_query"] for row in rows}
    found = {table: _TTL.search(queries.get(table, "")) for table in KEPT_TABLES}
    return {table: None if match is None else int(match[1]) for table, match in found.items()}


def write_ttl(client: Client, table: str, seconds: int) -> None:
    """Set the TTL of a table of KEPT_TABLES, in seconds. Rows that are older expire at the next merges."""
    if table not in KEPT_TABLES:
        raise ValueError(f"{table} has no retention")
    client.command(f"ALTER TABLE {table} MODIFY TTL toDateTime(received_at) + toIntervalSecond({int(seconds)})")


def write_settings(client: Client, values: Mapping[str, str]) -> None:
    """Replace rows of fold_settings, all in one insert. Workers must be stopped."""
    import pyarrow as pa

    from meterfold_sink.writers import Writer

    # Above the usual negative values of this column, and the later the larger.
    now = client.value("SELECT toUnixTimestamp64Micro(now64(6))")
    rows = {"name": list(values), "value": list(values.values()), "earlier": pa.array([now] * len(values), pa.int64())}
    Writer(client).insert("fold_settings", pa.table(rows))


def unfinished(client: Client, progress: Mapping[int, ProgressRow], partition_count: int) -> dict[int, int]:
    """partition -> the first offset at or above its progress that has a row all the same: a flush began there and did
    not end. Reads every stored position."""
    spans = [
        Span(partition, 0, progress[partition].next_offset if partition in progress else 0)
        for partition in range(partition_count)
    ]
    rows = positions_outside(client, spans, 1)
    return {row["partition"]: row["offset"] for row in rows}


def any_expired(client: Client, progress: Iterable[ProgressRow]) -> bool:
    """Whether records of counted events are gone. Counts every record, which may take a minute."""
    (row,) = client.rows(
        "SELECT toInt64(count()) AS kept FROM usage_records FINAL",
        settings={"do_not_merge_across_partitions_select_final": 1},
    )
    return bool(row["kept"] < sum(one.counted for one in progress))


def records_before(client: Client, stamp: int) -> int:
    """Records that arrived before `stamp` (UTC microseconds)."""
    return int(
        client.value(
            "SELECT toInt64(count()) FROM usage_records "
            "WHERE received_at < fromUnixTimestamp64Micro({stamp:Int64}, 'UTC')",
            {"stamp": max(stamp, 0)},
        )
    )
