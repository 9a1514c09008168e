"""The recount on a running system, a few partitions at a time.

The view usage_reconciliation reads windows and records while the fold writes both, so it is exact only at rest. Here
progress is read first, then the windows are copied, and only then the records are recounted: every record that a
copied window holds was stored before it, and every window of a record below the progress was stored before that.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

from meterfold_schemas.errors import MeterfoldError
from meterfold_sink.client import Client, to_rows
from meterfold_sink.fold_state import ProgressRow, read_progress, read_rules
from meterfold_sink.migrate import migrations, statements
from meterfold_sink.reads import END_OF_WINDOW, FINAL, WINDOW_COLUMNS
from meterfold_sink.rules import FoldRules
from meterfold_sink.window_suspects import SUBJECT_OF_WINDOW, compare_slice, slices_of, suspects_table

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
    tell: Callable[[str], None] = lambda text: None,
) -> list[PartitionProof]:
    """Recount the windows of partitions from their records; at most `limit` differences of each are listed.

    `unprovable` windows may have had records that expired; they are not compared, but still add up to the lifetimes.
    `within` [start, end) in UTC microseconds: only windows that lie in it as a whole, which no lifetime does. `tell`
    hears about each month. Raises Retryable or Fatal.
    """
    rules = read_rules(client)
    with _table("suspects", suspects_table, client) as suspects:
        for part in slices_of(client, rules, partitions, within):
            tell(str(part))
            # Read anew for each month: less of it is newer than the progress.
            next_offsets = {p: row.next_offset for p, row in read_progress(client, partitions).items()}
            compare_slice(client, rules, partitions, next_offsets, part, suspects)
        progress = read_progress(client, partitions)
        counts = _counts(client, rules, partitions, within)
        proofs = {
            partition: PartitionProof(
                partition,
                progress.get(partition),
                windows=counts.get(("windows", partition), 0),
                records=counts.get(("records", partition), 0),
                unprovable=counts.get(("unprovable", partition), 0),
                differences=[],
            )
            for partition in partitions
        }
        left = [row["partition"] for row in client.rows(f"SELECT DISTINCT partition FROM {suspects}")]  # noqa: S608
        while left:
            tell("subjects with windows that are newer than the progress, or differ")
            attempts -= 1
            for p, (row, differences) in _attempt(client, rules, left, limit, within, suspects).items():
                proofs[p] = replace(proofs[p], progress=row, differences=differences)
            left = [p for p in left if attempts > 0 and not proofs[p].proven and _may_be_in_flight(proofs[p])]
    return [proofs[partition] for partition in partitions]


def _attempt(
    client: Client,
    rules: FoldRules,
    partitions: Sequence[int],
    limit: int,
    within: tuple[int, int] | None,
    suspects: str,
) -> dict[int, tuple[ProgressRow | None, list[dict[str, Any]]]]:
    """partition -> its progress, and which windows of the subjects in the table `suspects` differ."""
    with _table("usage_windows", lambda name: f"CREATE TABLE {name} AS usage_windows", client) as copy:
        # The order is the point: progress, windows, records.
        progress = read_progress(client, partitions)
        windows_within, records_within = _conditions(within)
        parameters: dict[str, Any] = {
            "partitions": list(partitions),
            "folded": list(progress),
            "next_offsets": [row.next_offset for row in progress.values()],
            **_bounds(rules, within),
        }
        columns = ", ".join(WINDOW_COLUMNS)
        suspected = (
            f"partition IN {{partitions:Array(Int32)}} AND ({SUBJECT_OF_WINDOW}) "  # noqa: S608
            f"IN (SELECT {SUBJECT_OF_WINDOW} FROM {suspects})"
        )
        client.command(
            f"INSERT INTO {copy} ({columns}) SELECT {columns} FROM usage_windows FINAL "  # noqa: S608
            f"WHERE {suspected}{windows_within}",
            parameters,
            {"max_partitions_per_insert_block": 0},
        )
        records_of = f"SELECT * FROM usage_records FINAL WHERE {suspected}{records_within}"  # noqa: S608
        # Windows that the range cuts are recounted from a part of their records: those are no answer.
        differences = to_rows(
            client.query(
                f"SELECT * FROM ({_view('usage_reconciliation', copy, records_of)}) "  # noqa: S608
                f"WHERE partition IN {{partitions:Array(Int32)}}{windows_within} ORDER BY partition, period_type, "
                "period_start, org_id, metric_key, subject_type, subject_id LIMIT {limit:UInt64} BY partition",
                {**parameters, "limit": limit},
            )
        )
    return {
        partition: (progress.get(partition), [row for row in differences if row["partition"] == partition])
        for partition in partitions
    }


def _counts(
    client: Client, rules: FoldRules, partitions: Sequence[int], within: tuple[int, int] | None
) -> dict[tuple[str, int], int]:
    """(what, partition) -> how many windows, records, and windows whose records may have expired."""
    windows_within, records_within = _conditions(within)
    of = "partition IN {partitions:Array(Int32)}"
    sources = {
        "windows": f"usage_windows FINAL WHERE {of}{windows_within}",
        "records": f"usage_records FINAL WHERE {of}{records_within}",
        "unprovable": f"usage_unprovable_windows WHERE {of}{windows_within}",
    }
    sql = " UNION ALL ".join(
        f"SELECT '{what}' AS what, partition, toInt64(count()) AS n FROM {source} GROUP BY partition"  # noqa: S608
        for what, source in sources.items()
    )
    parameters: dict[str, Any] = {"partitions": list(partitions), **_bounds(rules, within)}
    return {(row["what"], row["partition"]): row["n"] for row in client.rows(sql, parameters, FINAL)}


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


def _bounds(rules: FoldRules, within: tuple[int, int] | None) -> dict[str, int]:
    if within is None:
        return {}
    start, end = within
    arrived_from, arrived_until = rules.arrivals(start, end)
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
def _table(kind: str, statement: Callable[[str], str], client: Client) -> Iterator[str]:
    """A table with a name of its own, made by the statement and dropped at the end."""
    name = f"verify_{secrets.token_hex(8)}_{kind}"
    try:
        client.command(statement(name))
        yield name
    finally:
        # A table that cannot be dropped costs disk but proves nothing wrong; what failed before matters more.
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


def _view(name: str, copy: str = "usage_windows", records: str | None = None) -> str:
    """The SELECT of a view, reading the copy of the windows instead of the table; and, with `records`, those instead of
    all of them, and the progress that is bound instead of the stored one."""
    text = re.sub(r"\busage_windows\b", copy, _definitions()[name])
    if records is None:
        return text
    text = text.replace("fold_progress FINAL", _PROGRESS)
    return _RECORDS.sub(lambda match: f"FROM ({records}) AS {match[1]}", text)
