"""The recount on a running system, one partition at a time.

The view usage_reconciliation reads windows and records while the fold writes both, so it is exact only at rest. Here
progress is read first, then the windows are copied, and only then the records are recounted: every record that a
copied window holds was stored before it, and every window of a record below the progress was stored before that.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Final

import pyarrow as pa

from meterfold_schemas.errors import MeterfoldError
from meterfold_sink.client import Client
from meterfold_sink.migrate import migrations, statements
from meterfold_sink.reads import END_OF_WINDOW, WINDOW_COLUMNS, Progress, read_progress, read_rules

__all__ = ["PartitionProof", "prove_partition"]

_VIEW: Final = re.compile(r"CREATE OR REPLACE VIEW (\w+) AS\s+")
_RECORDS: Final = re.compile(r"\bFROM usage_records AS (\w+) FINAL\b")
_COPIED: Final = ("usage_windows", "fold_progress")

#: An insert of windows becomes visible month by month, so a lifetime may be seen before or after its month.
ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True)
class PartitionProof:
    """What was found in one partition: `differences` has the columns of usage_reconciliation."""

    partition: int
    progress: Progress | None
    windows: int
    records: int
    unprovable: int
    differences: pa.Table

    @property
    def proven(self) -> bool:
        return self.differences.num_rows == 0


def prove_partition(
    client: Client,
    partition: int,
    *,
    limit: int = 1000,
    attempts: int = ATTEMPTS,
    within: tuple[int, int] | None = None,
) -> PartitionProof:
    """Recount the windows of a partition from its records; at most `limit` differences are listed.

    `unprovable` windows may have had records that expired; they are not compared, but still add up to the lifetimes.
    `within` [start, end) in UTC microseconds: only windows that lie in it as a whole, which no lifetime does.
    Raises Retryable or Fatal.
    """
    while True:
        attempts -= 1
        proof = _attempt(client, partition, limit, within)
        if proof.proven or attempts <= 0 or not _may_be_in_flight(proof):
            return proof


def _attempt(client: Client, partition: int, limit: int, within: tuple[int, int] | None) -> PartitionProof:
    with _copies(client) as names:
        parameters = {"partition": partition, **_bounds(client, within)}
        windows_within, records_within = _conditions(within)
        # The order is the point: progress, windows, records.
        progress = read_progress(client, [partition]).get(partition)
        columns = "partition, next_offset, log_start, counted, duplicates, rejected, last_stamp, flushed_at"
        client.command(
            f"INSERT INTO {names['fold_progress']} ({columns}) SELECT {columns} FROM fold_progress FINAL "  # noqa: S608
            "WHERE partition = {partition:Int32} AND next_offset <= {next_offset:Int64}",
            {**parameters, "next_offset": progress.next_offset if progress else -1},
        )
        columns = ", ".join(WINDOW_COLUMNS)
        client.command(
            f"INSERT INTO {names['usage_windows']} ({columns}) SELECT {columns} FROM usage_windows FINAL "  # noqa: S608
            f"WHERE partition = {{partition:Int32}}{windows_within}",
            parameters,
            {"max_partitions_per_insert_block": 0},
        )
        records_of = f"SELECT * FROM usage_records FINAL WHERE partition = {{partition:Int32}}{records_within}"  # noqa: S608
        windows = client.value(f"SELECT count() FROM {names['usage_windows']}")  # noqa: S608
        unprovable = client.value(f"SELECT count() FROM ({_view('usage_unprovable_windows', names)})")  # noqa: S608
        # Windows that the range cuts are recounted from a part of their records: those are no answer.
        differences = client.query(
            f"SELECT * FROM ({_view('usage_reconciliation', names, records_of)}) "  # noqa: S608
            f"WHERE partition = {{partition:Int32}}{windows_within} "
            "ORDER BY period_type, period_start, org_id, metric_key, subject_type, subject_id LIMIT {limit:UInt64}",
            {**parameters, "limit": limit},
        )
        records = client.value(f"SELECT count() FROM ({records_of})", parameters)  # noqa: S608
    return PartitionProof(partition, progress, windows, records, unprovable, differences)


def _conditions(within: tuple[int, int] | None) -> tuple[str, str]:
    """What is added to a condition on windows, and to one on records: their stamps bound what is read of them."""
    if within is None:
        return "", ""
    start, end = ("fromUnixTimestamp64Micro({start:Int64}, 'UTC')", "fromUnixTimestamp64Micro({end:Int64}, 'UTC')")
    windows = f" AND period_type != 'lifetime' AND period_start >= {start} AND {END_OF_WINDOW} <= {end}"
    records = (
        f" AND timestamp >= {start} AND timestamp < {end} "
        "AND received_at >= fromUnixTimestamp64Micro({arrived_from:Int64}, 'UTC') "
        "AND received_at <= fromUnixTimestamp64Micro({arrived_until:Int64}, 'UTC')"
    )
    return windows, records


def _bounds(client: Client, within: tuple[int, int] | None) -> dict[str, int]:
    if within is None:
        return {}
    start, end = within
    arrived_from, arrived_until = read_rules(client).arrivals(start, end)
    return {"start": start, "end": end, "arrived_from": arrived_from, "arrived_until": arrived_until}


def _may_be_in_flight(proof: PartitionProof) -> bool:
    """Whether every difference is a lifetime that was written, or whose month was, after the progress was read."""
    next_offset = proof.progress.next_offset if proof.progress else 0
    return all(
        row["period_type"] == "lifetime"
        and max(row["stored_folded_through"] or 0, row["recounted_folded_through"] or 0) >= next_offset
        for row in proof.differences.to_pylist()
    )


@contextmanager
def _copies(client: Client) -> Iterator[dict[str, str]]:
    """Empty copies of the tables, with names of their own, dropped at the end."""
    suffix = secrets.token_hex(8)
    names = {table: f"verify_{suffix}_{table}" for table in _COPIED}
    try:
        for table, name in names.items():
            client.command(f"CREATE TABLE {name} AS {table}")
        yield names
    finally:
        _drop(client, names)


def _drop(client: Client, names: dict[str, str]) -> None:
    for name in names.values():
        try:
            client.command(f"DROP TABLE IF EXISTS {name}")
        except MeterfoldError:
            # The copy stays behind, which costs disk but proves nothing wrong; what failed before matters more.
            continue


@cache
def _definitions() -> dict[str, str]:
    """view -> its newest SELECT."""
    found = {}
    for migration in migrations():
        if "CREATE OR REPLACE VIEW" in migration.text:
            for statement in statements(migration, {}):
                if match := _VIEW.match(statement):
                    found[match[1]] = statement[match.end() :]
    return found


def _view(name: str, copies: dict[str, str], records: str | None = None) -> str:
    """The SELECT of a view, reading the copies instead of the tables, and `records` instead of all of them."""
    text = re.sub(r"\b(usage_windows|fold_progress)\b", lambda match: copies[match[1]], _definitions()[name])
    return text if records is None else _RECORDS.sub(lambda match: f"FROM ({records}) AS {match[1]}", text)
