"""The stored windows that a batch of the fold touches: how many there may be, those of single subjects, and all of them
in parts.

A partition's windows of one hour, or its lifetimes, are side by side in the sort key. Few subjects are found by the
primary key. Many lie in every granule anyway: then the subjects of the bucket are hashed and looked up, which costs
0.1 us of CPU for each window of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from meterfold_schemas.keys import SUBJECT, Name
from meterfold_schemas.periods import Period
from meterfold_sink.client import Client
from meterfold_sink.read_ahead import read_ahead
from meterfold_sink.reads import FINAL, WINDOW_COLUMNS

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FEW", "HASH_FACTORS", "START_FACTOR", "count_windows", "find_windows", "load_part", "names_apart"]

FEW: Final = 50
"""Subjects up to which the primary key finds them for less: 10 of a million cost 65 ms of CPU, and 500 400 ms, while a
million hashes cost 100 ms, with 10,000 found windows 210 ms."""
HASH_FACTORS: Final = dict(zip(SUBJECT, (3, 5, 7, 11), strict=True))
START_FACTOR: Final = 13

#: A window's hash: the sum, modulo 2^64, of the xxHash64 of each column of its subject and of its start in UTC
#: microseconds, each multiplied by its factor. It only narrows the search: the caller compares the columns.
_HASH: Final = " + ".join(
    [
        *(f"{factor} * xxHash64({name})" for name, factor in HASH_FACTORS.items()),
        f"{START_FACTOR} * toUInt64(toUnixTimestamp64Micro(period_start))",
    ]
)
_HASHES: Final = (
    "WITH unhex('{packed}') AS packed "
    "SELECT reinterpretAsUInt64(substring(packed, 8 * number + 1, 8)) FROM numbers({size})"
)
_SUBJECTS: Final = (
    f"SELECT {', '.join(f'parts.{number}' for number, _ in enumerate(SUBJECT, 1))} FROM ("  # noqa: S608
    "SELECT JSONExtract(arrayJoin(splitByChar('\\n', unhex('{packed}'))), "
    f"'Tuple({', '.join(['String'] * len(SUBJECT))})') AS parts)"
)
_LARGE_STATEMENT: Final = {"max_query_size": 1 << 28}


def count_windows(client: Client, partition: int, period: Period, starts: Sequence[int]) -> dict[int, int]:
    """Start (UTC microseconds) -> the rows of windows of a partition that begin then. A window has one row at least."""
    rows = client.rows(
        "SELECT toUnixTimestamp64Micro(period_start) AS start, count() AS size FROM usage_windows "  # noqa: S608
        f"WHERE {_buckets(partition, period, starts)} GROUP BY period_start",
        settings=_LARGE_STATEMENT,
    )
    return {row["start"]: row["size"] for row in rows}


def find_windows(
    client: Client,
    partition: int,
    period: Period,
    starts: Sequence[int],
    hashes: npt.NDArray[np.uint64],
    keys: Sequence[bytes],
    low: Name,
) -> pa.Table:
    """The windows of a partition with one of these hashes, which begin at one of `starts` (UTC microseconds) and whose
    names do not come before `low`: the newest version of each, with WINDOW_COLUMNS. A window of another subject may
    have the same hash.

    `keys` are the subject keys of these windows; with more than FEW they are better left out.
    """
    conditions = [_buckets(partition, period, starts), _not_before(low)]
    if keys:
        packed = b"\n".join(keys).hex()  # JSON arrays: a line feed in a name is escaped
        conditions.append(f"({', '.join(SUBJECT)}) IN ({_SUBJECTS.format(packed=packed)})")
    packed = hashes.astype("<u8").tobytes().hex()
    conditions.append(f"{_HASH} IN ({_HASHES.format(packed=packed, size=len(hashes))})")
    # Without FINAL, which would merge all that it reads: of the few rows that are found, the newest is chosen here.
    return client.query(
        f"SELECT {', '.join(WINDOW_COLUMNS)} FROM usage_windows WHERE {' AND '.join(conditions)} "  # noqa: S608
        f"ORDER BY folded_through DESC LIMIT 1 BY period_start, {', '.join(SUBJECT)}",
        settings=_LARGE_STATEMENT,
    )


def names_apart(client: Client, partition: int, period: Period, start: int, size: int) -> list[Name]:
    """About one in `size` of the names of the windows of a partition that begin at `start`, in ascending order."""
    rows = client.rows(
        f"SELECT DISTINCT {', '.join(SUBJECT)} FROM usage_windows "  # noqa: S608
        f"WHERE {_buckets(partition, period, [start])} AND ({_HASH}) % {int(size)} = 0 ORDER BY {', '.join(SUBJECT)}"
    )
    return [(row["org_id"], row["metric_key"], row["subject_type"], row["subject_id"]) for row in rows]


def load_part(
    client: Client, partition: int, period: Period, start: int, low: Name, high: Name | None
) -> Iterator[pa.RecordBatch]:
    """The windows of a partition that begin at `start`, with names from `low` on and before `high` (None: to the end):
    the newest version of each, with WINDOW_COLUMNS. ClickHouse reads on while the caller takes a piece over; `client`
    is busy until the last one was taken."""
    conditions = [_buckets(partition, period, [start]), _not_before(low)]
    if high is not None:
        conditions.append(f"NOT {_not_before(high)}")
    sql = f"SELECT {', '.join(WINDOW_COLUMNS)} FROM usage_windows FINAL WHERE {' AND '.join(conditions)}"  # noqa: S608
    return read_ahead(client.batches(sql, settings=FINAL))


def _buckets(partition: int, period: Period, starts: Sequence[int]) -> str:
    numbers = ", ".join(str(int(start)) for start in starts)
    return (
        f"partition = {int(partition)} AND period_type = '{Period(period).value}' "
        f"AND period_start IN (SELECT fromUnixTimestamp64Micro(arrayJoin([{numbers}]), 'UTC'))"
    )


def _not_before(name: Name) -> str:
    """That a window's name is this one or comes after it, in the form whose bounds the primary key understands. Names
    are what producers wrote: they are in hexadecimal digits."""
    condition = "1"
    if not any(name):
        return condition
    for column, value in zip(reversed(SUBJECT), reversed(name), strict=True):
        text = f"unhex('{value.encode().hex()}')"
        condition = f"({column} > {text} OR ({column} = {text} AND {condition}))"
    return condition
