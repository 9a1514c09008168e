"""The recount on a running system, a few partitions at a time.

The view usage_reconciliation reads windows and records while the fold writes both, so it is exact only at rest. Here
progress is read first, then the windows are copied, and only then the records are recounted: every record that a
copied window holds was stored before it, and every window of a record below the progress was stored before that.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from meterfold_schemas.errors import MeterfoldError
from meterfold_sink.client import Client, to_rows
from meterfold_sink.fold_state import ProgressRow, read_progress, read_rules
from meterfold_sink.migrate import migrations, statements
from meterfold_sink.reads import END_OF_WINDOW, WINDOW_COLUMNS

__all__ = ["PartitionProof", "prove_partitions"]

_VIEW: Final = re.compile(r"CREATE OR REPLACE VIEW (\w+) AS\s+")
_RECORDS: Final = re.compile(r"\bFROM usage_records AS (\w+) FINAL\b")
#: An insert of windows becomes visible month by month, so a lifetime may be seen before or after its month.
ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True)
class PartitionProof:
    """What was found in one partition: `differences` are rows of usage_reconciliation."""

    partition: int
    progress: ProgressRow | None
    windows: int
    records: int
    unprovable: int
    differences: list[dict[str, Any]]

    @property
    def proven(self) -> bool:
        return not self.differences


def prove_partitions(
    client: Client,
    partitions: Sequence[int],
    *,
    limit: int = 1000,
    attempts: int = ATTEMPTS,
    within: tuple[int, int] | None = None,
) -> list[PartitionProof]:
    """Recount the windows of partitions from their records; at most `limit` differences of each are listed.

    `unprovable` windows may have had records that expired; they are not compared, but still add up to the lifetimes.
    `within` [start, end) in UTC microseconds: only windows that lie in it as a whole, which no lifetime does. The
    server holds the sums of all these partitions at once, so the caller chooses how many go together. Raises Retryable
    or Fatal.
    """
    proofs: dict[int, PartitionProof] = {}
    left = list(partitions)
    while left:
        attempts -= 1
        proofs.update((proof.partition, proof) for proof in _attempt(client, left, limit, within))
        left = [p for p in left if attempts > 0 and not proofs[p].proven and _may_be_in_flight(proofs[p])]
    return [proofs[partition] for partition in partitions]


def _attempt(
    client: Client, partitions: Sequence[int], limit: int, within: tuple[int, int] | None
) -> list[PartitionProof]:
    with _copy_of_windows(client) as copy:
        # The order is the point: progress, windows, records.
        progress = read_progress(client, partitions)
        windows_within, records_within = _conditions(within)
        parameters: dict[str, Any] = {
            "partitions": list(partitions),
            "folded": list(progress),
            "next_offsets": [row.next_offset for row in progress.values()],
            **_bounds(client, within),
        }
        columns = ", ".join(WINDOW_COLUMNS)
        client.command(
            f"INSERT INTO {copy} ({columns}) SELECT {columns} FROM usage_windows FINAL "  # noqa: S608
            f"WHERE partition IN {{partitions:Array(Int32)}}{windows_within}",
            parameters,
            {"max_partitions_per_insert_block": 0},
        )
        records_of = f"SELECT * FROM usage_records FINAL WHERE partition IN {{partitions:Array(Int32)}}{records_within}"  # noqa: S608
        # Windows that the range cuts are recounted from a part of their records: those are no answer.
        differences = to_rows(
            client.query(
                f"SELECT * FROM ({_view('usage_reconciliation', copy, records_of)}) "  # noqa: S608
                f"WHERE partition IN {{partitions:Array(Int32)}}{windows_within} ORDER BY partition, period_type, "
                "period_start, org_id, metric_key, subject_type, subject_id LIMIT {limit:UInt64} BY partition",
                {**parameters, "limit": limit},
            )
        )
        counts = _counts(client, copy, records_of, parameters)
    return [
        PartitionProof(
            partition,
            progress.get(partition),
            windows=counts.get(("windows", partition), 0),
            records=counts.get(("records", partition), 0),
            unprovable=counts.get(("unprovable", partition), 0),
            differences=[row for row in differences if row["partition"] == partition],
        )
        for partition in partitions
    ]


def _counts(client: Client, copy: str, records_of: str, parameters: dict[str, Any]) -> dict[tuple[str, int], int]:
    """(what, partition) -> how many."""
    sources = {
        "windows": copy,
        "records": f"({records_of})",
        "unprovable": f"({_view('usage_unprovable_windows', copy)})",
    }
    sql = " UNION ALL ".join(
        f"SELECT '{what}' AS what, partition, toInt64(count()) AS n FROM {source} GROUP BY partition"  # noqa: S608
        for what, source in sources.items()
    )
    return {(row["what"], row["partition"]): row["n"] for row in client.rows(sql, parameters)}


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
        for row in proof.differences
    )


@contextmanager
def _copy_of_windows(client: Client) -> Iterator[str]:
    """An empty table like usage_windows with a name of its own, dropped at the end."""
    name = f"verify_{secrets.token_hex(8)}_usage_windows"
    try:
        client.command(f"CREATE TABLE {name} AS usage_windows")
        yield name
    finally:
        # A copy that cannot be dropped costs disk but proves nothing wrong; what failed before matters more.
        with suppress(MeterfoldError):
            client.command(f"DROP TABLE IF EXISTS {name}")


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


_PROGRESS: Final = (
    "(SELECT row.1 AS partition, row.2 AS next_offset FROM ("
    "SELECT arrayJoin(arrayZip({folded:Array(Int32)}, {next_offsets:Array(Int64)})) AS row))"
)


def _view(name: str, copy: str, records: str | None = None) -> str:
    """The SELECT of a view, reading the copy of the windows instead of the table, the progress that is bound instead of
    the stored one, and `records` instead of all of them."""
    text = _definitions()[name].replace("fold_progress FINAL", _PROGRESS)
    text = re.sub(r"\busage_windows\b", copy, text)
    return text if records is None else _RECORDS.sub(lambda match: f"FROM ({records}) AS {match[1]}", text)
