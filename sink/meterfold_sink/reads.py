"""What the fold and the checker read back: stored rules, progress, windows, identities.

All times are UTC microseconds. Lists of integers that our own code made are written into the statement itself (as
hexadecimal digits: ClickHouse parses 200,000 number literals in seconds, these in milliseconds); everything else is
bound.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import pyarrow as pa

from meterfold_schemas.keys import SUBJECT
from meterfold_schemas.periods import KEPT, Period
from meterfold_schemas.totals import AMOUNTS
from meterfold_sink.client import Client
from meterfold_sink.fold_state import read_rules, read_settings
from meterfold_sink.rules import FoldRules
from meterfold_sink.writers import Writer

__all__ = [
    "END_OF_WINDOW",
    "FINAL",
    "WINDOW_COLUMNS",
    "find_records",
    "iter_identities",
    "load_identities",
    "load_windows",
    "read_mirrored",
    "write_settings_once",
]

#: The columns of usage_windows in the order in which the fold writes and publishes them.
WINDOW_COLUMNS: Final = (
    *SUBJECT,
    "period_type",
    "period_start",
    "partition",
    "record_count",
    *AMOUNTS,
    "last_timestamp",
    "last_offset",
    "folded_through",
)
_WINDOWS: Final = ", ".join(WINDOW_COLUMNS)

_LENGTH: Final = {
    Period.HOURLY: "1 HOUR",
    Period.DAILY: "1 DAY",
    Period.WEEKLY: "7 DAY",
    Period.MONTHLY: "1 MONTH",
    Period.YEARLY: "1 YEAR",
}
#: The end of a row of usage_windows, which a lifetime has not.
END_OF_WINDOW: Final = (
    "multiIf("
    + "".join(f"period_type = '{kept}', period_start + INTERVAL {_LENGTH[kept]}, " for kept in KEPT if kept in _LENGTH)
    + "toDateTime64('2299-12-31', 6, 'UTC'))"
)

#: The partition key is a function of the sort key, so no row has versions in two partitions.
FINAL: Final = {"do_not_merge_across_partitions_select_final": 1}
_LARGE_STATEMENT: Final = {"max_query_size": 1 << 28}


def write_settings_once(client: Client, rules: FoldRules) -> None:
    """Store the rules if there are none yet; otherwise compare. Raises Fatal when others are stored.

    Of two that write at once the first wins, and the other finds out when it reads them back.
    """
    stored = read_settings(client)
    missing = {name: value for name, value in rules.to_rows().items() if name not in stored}
    if missing:
        # The stored settings are compared before anything is added.
        rules.require_same(FoldRules.from_rows({**rules.to_rows(), **stored}))
        Writer(client).insert("fold_settings", pa.table({"name": list(missing), "value": list(missing.values())}))
    rules.require_same(read_rules(client))


def read_mirrored(client: Client) -> dict[tuple[str, int], int]:
    """(topic, partition) -> the next offset that is to be copied into ClickHouse; nothing where none was."""
    rows = client.rows("SELECT topic, partition, next_offset FROM mirror_progress FINAL")
    return {(row["topic"], row["partition"]): row["next_offset"] for row in rows}


def load_windows(client: Client, partition: int, period_type: str, period_starts: Sequence[int]) -> pa.Table:
    """Every window of the partition that begins at one of `period_starts`: WINDOW_COLUMNS, newest version only."""
    return client.query(
        f"SELECT {_WINDOWS} FROM usage_windows FINAL "  # noqa: S608
        "WHERE partition = {partition:Int32} AND period_type = {period_type:String} AND period_start IN ("
        f"SELECT fromUnixTimestamp64Micro(arrayJoin({_integers(period_starts)}), 'UTC'))",
        {"partition": partition, "period_type": Period(period_type).value},
        {**FINAL, **_LARGE_STATEMENT},
    )


_IDENTITIES: Final = (
    "SELECT identity_hash, received_at FROM usage_records WHERE partition = {partition:Int32} "
    "AND received_at >= fromUnixTimestamp64Micro({since:Int64}, 'UTC') "
    "AND received_at < fromUnixTimestamp64Micro({until:Int64}, 'UTC')"
)
_NO_END: Final = 9_000_000_000_000_000  # the year 2255; DateTime64(6) ends in 2299


def load_identities(
    client: Client, partition: int, since: int, until: int | None = None, *, from_offset: int = 0
) -> pa.Table:
    """(identity_hash uint64, received_at) of counted records with stamps in [since, until) and an offset of at least
    `from_offset`; a row may come twice."""
    parameters = _span(partition, since, until)
    if not from_offset:
        return client.query(_IDENTITIES, parameters)
    return client.query(_IDENTITIES + " AND offset >= {from_offset:Int64}", {**parameters, "from_offset": from_offset})


def iter_identities(client: Client, partition: int, since: int, until: int | None = None) -> Iterator[pa.RecordBatch]:
    """The same in pieces, for more identities than should be in memory twice."""
    return client.batches(_IDENTITIES, _span(partition, since, until))


def _span(partition: int, since: int, until: int | None) -> dict[str, int]:
    # DateTime64 begins in 1900; an earlier bound would wrap around.
    return {"partition": partition, "since": max(since, 0), "until": _NO_END if until is None else min(until, _NO_END)}


def find_records(
    client: Client,
    partition: int,
    hashes: Sequence[int],
    before_offset: int | None = None,
    since: int | None = None,
    spans: Sequence[tuple[int, int]] = (),
) -> pa.Table:
    """Counted records with one of these identity hashes, in any order; a row may come twice.

    Columns: org_id, metric_key, subject_type, subject_id, id, offset, received_at, identity_hash. Only offsets below
    `before_offset`, stamps from `since` on, and stamps in one of `spans` (half-open), where given. Equal hashes are no
    equal identities: compare those.
    """
    packed = np.asarray(hashes, dtype="<u8").tobytes().hex()
    # No bound parameter here: with one, clickhouse-connect walks through the whole statement in Python.
    conditions = [f"partition = {int(partition)}"]
    if before_offset is not None:
        conditions.append(f"offset < {int(before_offset)}")
    if since is not None:
        conditions.append(f"received_at >= {_micros(since)}")
    if spans:
        either = (f"(received_at >= {_micros(first)} AND received_at < {_micros(end)})" for first, end in spans)
        conditions.append(f"({' OR '.join(either)})")
    return client.query(
        "SELECT org_id, metric_key, subject_type, subject_id, id, offset, received_at, identity_hash "  # noqa: S608
        f"FROM usage_records WHERE {' AND '.join(conditions)} AND identity_hash IN ("
        f"WITH unhex('{packed}') AS packed "
        f"SELECT reinterpretAsUInt64(substring(packed, 8 * number + 1, 8)) FROM numbers({len(hashes)}))",
        settings=_LARGE_STATEMENT,
    )


def _micros(stamp: int) -> str:
    return f"fromUnixTimestamp64Micro({min(max(int(stamp), 0), _NO_END)}, 'UTC')"


def _integers(values: Sequence[int]) -> str:
    return f"[{','.join(str(int(value)) for value in values)}]" if values else "CAST([] AS Array(Int64))"
