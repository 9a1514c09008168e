"""The recount behind a closing: the windows of some periods beside the sums of their records, in a table of its own.

The order is that of every recount on a running system: the progress was read before, the windows are copied, and only
then the records are read, so that every record in a copied window is stored. The records are read in passes over a part
of the windows, and large groupings use the server's disk.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from meterfold_schemas.errors import MeterfoldError
from meterfold_schemas.periods import Period, from_micros, period_end
from meterfold_sink.closing_checksum import EMPTY_CHECKSUM, IN_ORDER, checksum_sql, window_digest

if TYPE_CHECKING:
    from meterfold_sink.client import Client
    from meterfold_sink.rules import FoldRules

__all__ = ["Recount", "RecountedPeriod", "WindowDifference", "recount"]

_WINDOW: Final = 1
_BELOW: Final = 0
_BEYOND: Final = 2
_WINDOWS_AT_ONCE: Final = 250_000
_STALE_SECONDS: Final = 86_400
_NAME: Final = "closing"

_START_OF: Final = {
    Period.HOURLY: "toStartOfHour",
    Period.DAILY: "toStartOfDay",
    Period.MONTHLY: "toStartOfMonth",
}
_KEY: Final = "period_start, metric_key, org_id, subject_type, subject_id, partition"
_STATE: Final = "record_count, sum, min, max, last, last_timestamp, last_offset, folded_through"

_STATES: Final = """
    toInt64(count()), sum(toDecimal256(r.quantity, 9)), min(r.quantity), max(r.quantity),
    argMax(r.quantity, bitShiftLeft(toInt128(toUnixTimestamp64Micro(r.timestamp)), 63) + r.offset),
    max(r.timestamp),
    argMax(r.offset, bitShiftLeft(toInt128(toUnixTimestamp64Micro(r.timestamp)), 63) + r.offset),
    max(r.offset)
"""
#: What is stored, and what the records below the progress and those beyond it in windows that are ahead add up to.
_COMPARED: Final = """
SELECT
    period_start, metric_key, org_id, subject_type, subject_id, partition,
    sumIf(record_count, side = 1) AS stored_count, sumIf(record_count, side != 1) AS recounted_count,
    sumIf(sum, side = 1) AS stored_sum, sumIf(sum, side != 1) AS recounted_sum,
    minIf(min, side = 1) AS stored_min, minIf(min, side != 1) AS recounted_min,
    maxIf(max, side = 1) AS stored_max, maxIf(max, side != 1) AS recounted_max,
    argMaxIf(last, order_of_last, side = 1) AS stored_last, argMaxIf(last, order_of_last, side != 1) AS recounted_last,
    maxIf(order_of_last, side = 1) AS stored_order, maxIf(order_of_last, side != 1) AS recounted_order,
    maxIf(folded_through, side = 1) AS stored_through, maxIf(folded_through, side != 1) AS recounted_through,
    countIf(side = 1) AS windows, countIf(side != 1) AS recounts,
    windows = 0 OR recounts = 0 OR stored_count != recounted_count OR stored_sum != recounted_sum
        OR stored_min != recounted_min OR stored_max != recounted_max OR stored_last != recounted_last
        OR stored_order != recounted_order OR stored_through != recounted_through AS differs
FROM
(
    SELECT *, bitShiftLeft(toInt128(toUnixTimestamp64Micro(last_timestamp)), 63) + last_offset AS order_of_last
    FROM {table}
)
GROUP BY period_start, metric_key, org_id, subject_type, subject_id, partition
"""


@dataclass(frozen=True, slots=True)
class RecountedPeriod:
    """One period. `windows`, `records` and `checksum` are of the records below the progress: the numbers to close.

    `different`: windows that differ from their records, of which those that `lack` records lack `missing` of them.
    """

    start: datetime
    windows: int
    records: int
    checksum: str
    different: int
    lack: int
    missing: int


@dataclass(frozen=True, slots=True)
class WindowDifference:
    """A stored window that is not what its records add up to. A missing window or record has counts and sums of 0."""

    org_id: str
    metric_key: str
    subject_type: str
    subject_id: str
    period_start: datetime
    partition: int
    finding: str
    stored_count: int
    recounted_count: int
    stored_sum: Any
    recounted_sum: Any


@contextmanager
def recount(
    client: Client,
    rules: FoldRules,
    period: Period,
    starts: Sequence[int],
    metric_key: str,
    next_offsets: Mapping[int, int],
    *,
    windows: bool = True,
) -> Iterator[Recount]:
    """Copy and recount the windows of `period` that begin at `starts` (UTC microseconds), of one metric or ("") of all.

    `next_offsets`: partition -> the progress, read before. Without `windows` only the records are recounted, and all of
    them differ. Raises Retryable or Fatal.
    """
    table = f"{_NAME}_{int(time.time())}_{secrets.token_hex(6)}"
    try:
        client.command(_table(table))
        made = Recount(client, table, rules, period, tuple(sorted(starts)), metric_key, dict(next_offsets))
        made.fill(windows=windows)
        yield made
    finally:
        # A table that cannot be dropped costs disk until a later run does it; what failed before matters more.
        with suppress(MeterfoldError):
            client.command(f"DROP TABLE IF EXISTS {table}")
            _drop_stale(client)


@dataclass(frozen=True, slots=True)
class Recount:
    """Use `recount`. Every method raises Retryable or Fatal."""

    client: Client
    table: str
    rules: FoldRules
    period: Period
    starts: tuple[int, ...]
    metric_key: str
    next_offsets: Mapping[int, int]

    def fill(self, *, windows: bool = True) -> None:
        if windows:
            self.client.command(self._windows(), self.parameters(), self.settings())
        passes = self._passes()
        for number in range(passes):
            parameters = {**self.parameters(), "passes": passes, "pass": number}
            self.client.command(self._records(), parameters, self.settings())
        if windows and self._is_ahead():
            self.client.command(self._records_beyond(), self.parameters(), self.settings())

    def periods(self) -> dict[int, RecountedPeriod]:
        """start -> what was found; of every start, also where there is no usage."""
        digest = window_digest(period_type="{period:String}")
        rows = self.client.rows(
            f"""
SELECT toUnixTimestamp64Micro(c.period_start) AS start, c.period_start AS period_start, k.checksum AS checksum,
    toInt64(c.different) AS different, toInt64(c.lack) AS lack, toInt64(c.missing) AS missing,
    toInt64(k.window_count) AS windows, toInt64(k.record_count) AS records
FROM
(
    SELECT period_start, sum(differs) AS different, countIf(stored_count > recounted_count AND windows > 0) AS lack,
        sumIf(stored_count - recounted_count, stored_count > recounted_count) AS missing
    FROM ({_COMPARED.format(table=self.table)})
    GROUP BY period_start
) AS c
LEFT ANY JOIN
(
    {checksum_sql(f"SELECT period_start, {digest} AS digest, record_count FROM {self.table} WHERE side = {_BELOW}")}
) AS k ON k.period_start = c.period_start
""",  # noqa: S608
            self.parameters(),
            self.settings(),
        )
        found = {
            row["start"]: RecountedPeriod(
                row["period_start"],
                row["windows"],
                row["records"],
                row["checksum"] or EMPTY_CHECKSUM,
                row["different"],
                row["lack"],
                row["missing"],
            )
            for row in rows
        }
        return {start: found.get(start) or _nothing(start) for start in self.starts}

    def differences(self, start: int, limit: int) -> list[WindowDifference]:
        """The windows of one period that differ, in order of their keys, up to `limit`."""
        rows = self.client.rows(
            f"""
SELECT org_id, metric_key, subject_type, subject_id, period_start, partition,
    multiIf(windows = 0, 'window missing', recounts = 0, 'records missing', 'different') AS finding,
    stored_count, recounted_count, stored_sum, recounted_sum
FROM ({_COMPARED.format(table=self.table)})
WHERE differs AND toUnixTimestamp64Micro(period_start) = {{start:Int64}}
ORDER BY metric_key, org_id, subject_type, subject_id, partition
LIMIT {{limit:UInt64}}
""",  # noqa: S608
            {"start": start, "limit": limit},
            self.settings(),
        )
        return [WindowDifference(**row) for row in rows]

    def keep(self, start: int, since: Mapping[int, int]) -> None:
        """Copy the numbers of one period into closed_windows: the states from `since` (partition -> offset) on."""
        parameters = self.parameters()
        parameters["since"] = [since.get(partition, 0) for partition in parameters["folded"]]
        self.client.command(
            f"""
INSERT INTO closed_windows (period_type, {_KEY}, {_STATE})
SELECT {{period:String}}, {_KEY}, record_count, CAST(sum AS Decimal(38, 9)), min, max, last, last_timestamp,
    last_offset, folded_through
FROM {self.table}
WHERE side = {_BELOW} AND toUnixTimestamp64Micro(period_start) = {{start:Int64}}
    AND folded_through >= transform(partition, {{folded:Array(Int32)}}, {{since:Array(Int64)}}, toInt64(0))
""",  # noqa: S608
            {**parameters, "start": start},
            self.settings(),
        )

    def _windows(self) -> str:
        return f"""
INSERT INTO {self.table} (side, {_KEY}, {_STATE})
SELECT {_WINDOW}, {_KEY}, {_STATE}
FROM usage_windows FINAL
WHERE period_type = {{period:String}} AND period_start IN ({self._starts()}) AND {self.of_metric()}
"""  # noqa: S608

    def _records(self) -> str:
        return f"""
INSERT INTO {self.table} (side, {_KEY}, {_STATE})
SELECT {_BELOW}, {self.start_of()} AS start, r.metric_key, r.org_id, r.subject_type, r.subject_id, r.partition,
    {_STATES}
FROM usage_records AS r FINAL
WHERE {self.in_periods()} AND {self.of_metric("r.")}
    AND r.offset < transform(r.partition, {{folded:Array(Int32)}}, {{next_offsets:Array(Int64)}}, toInt64(0))
    AND cityHash64(r.org_id, r.metric_key, r.subject_type, r.subject_id) % {{passes:UInt32}} = {{pass:UInt32}}
GROUP BY r.partition, r.org_id, r.metric_key, r.subject_type, r.subject_id, start
"""  # noqa: S608

    def _records_beyond(self) -> str:
        """Records at or above the progress that windows hold: the fold writes windows before its progress."""
        return f"""
INSERT INTO {self.table} (side, {_KEY}, {_STATE})
SELECT {_BEYOND}, {self.start_of()} AS start, r.metric_key, r.org_id, r.subject_type, r.subject_id, r.partition,
    {_STATES}
FROM usage_records AS r FINAL
INNER JOIN
(
    SELECT {_KEY}, folded_through
    FROM {self.table}
    WHERE side = {_WINDOW} AND {self._beyond("partition", "folded_through")}
) AS w ON w.partition = r.partition AND w.org_id = r.org_id AND w.metric_key = r.metric_key
    AND w.subject_type = r.subject_type AND w.subject_id = r.subject_id AND w.period_start = {self.start_of()}
WHERE {self.in_periods()} AND {self._beyond("r.partition", "r.offset")} AND r.offset <= w.folded_through
GROUP BY r.partition, r.org_id, r.metric_key, r.subject_type, r.subject_id, start
"""  # noqa: S608

    def _passes(self) -> int:
        """How many times the records are read, each time for other subjects: the server holds the sums of one pass."""
        windows = int(
            self.client.value(
                "SELECT toInt64(count()) FROM usage_windows "  # noqa: S608
                f"WHERE period_type = {{period:String}} AND period_start IN ({self._starts()}) AND {self.of_metric()}",
                self.parameters(),
            )
        )
        return 1 + windows // _WINDOWS_AT_ONCE

    def _is_ahead(self) -> bool:
        sql = (
            f"SELECT toInt64(count()) FROM {self.table} "  # noqa: S608
            f"WHERE side = {_WINDOW} AND {self._beyond('partition', 'folded_through')}"
        )
        return bool(self.client.value(sql, self.parameters()))

    def _beyond(self, partition: str, offset: str) -> str:
        return f"{offset} >= transform({partition}, {{folded:Array(Int32)}}, {{next_offsets:Array(Int64)}}, toInt64(0))"

    def in_periods(self) -> str:
        """The condition on a record `r`, with a bound on its arrival that the sort key of usage_records can use."""
        return (
            f"{self.start_of()} IN ({self._starts()}) "
            "AND r.timestamp >= fromUnixTimestamp64Micro({first:Int64}, 'UTC') "
            "AND r.timestamp < fromUnixTimestamp64Micro({past:Int64}, 'UTC') "
            "AND r.received_at >= fromUnixTimestamp64Micro({arrived_from:Int64}, 'UTC') "
            "AND r.received_at <= fromUnixTimestamp64Micro({arrived_until:Int64}, 'UTC')"
        )

    def start_of(self) -> str:
        """The start of the period of a record `r`."""
        return f"toDateTime64({_START_OF[self.period]}(r.timestamp), 6, 'UTC')"

    def _starts(self) -> str:
        return "SELECT fromUnixTimestamp64Micro(arrayJoin({starts:Array(Int64)}), 'UTC')"

    def of_metric(self, prefix: str = "") -> str:
        """The condition on windows or records."""
        return f"({{metric_key:String}} = '' OR {prefix}metric_key = {{metric_key:String}})"

    def parameters(self) -> dict[str, Any]:
        """Of every statement, also those of closing_dimensions."""
        first, past = self.starts[0], period_end(self.period, self.starts[-1])
        assert past is not None
        arrived_from, arrived_until = self.rules.arrivals(first, past)
        return {
            "period": self.period.value,
            "starts": list(self.starts),
            "first": first,
            "past": past,
            "arrived_from": arrived_from,
            "arrived_until": arrived_until,
            "metric_key": self.metric_key,
            "folded": list(self.next_offsets),
            "next_offsets": list(self.next_offsets.values()),
        }

    def settings(self) -> dict[str, Any]:
        """Of every statement."""
        return {**IN_ORDER, "min_insert_block_size_rows": 1 << 17}


def _nothing(start: int) -> RecountedPeriod:
    return RecountedPeriod(from_micros(start), 0, 0, EMPTY_CHECKSUM, 0, 0, 0)


def _table(name: str) -> str:
    return f"""
CREATE TABLE {name}
(
    side           UInt8 COMMENT '1: a window; 0: its records below the progress; 2: its records beyond it',
    period_start   DateTime64(6, 'UTC'),
    metric_key     LowCardinality(String),
    org_id         LowCardinality(String),
    subject_type   LowCardinality(String),
    subject_id     String,
    partition      Int32,
    record_count   Int64,
    sum            Decimal(76, 9),
    min            Decimal(38, 9),
    max            Decimal(38, 9),
    last           Decimal(38, 9),
    last_timestamp DateTime64(6, 'UTC'),
    last_offset    Int64,
    folded_through Int64
)
ENGINE = MergeTree
ORDER BY ({_KEY})
"""


def _drop_stale(client: Client) -> None:
    """Tables of runs that were killed."""
    rows = client.rows(
        "SELECT name FROM system.tables WHERE database = currentDatabase() AND match(name, {name:String})",
        {"name": f"^{_NAME}_[0-9]+_[0-9a-f]{{12}}$"},
    )
    for row in rows:
        if int(row["name"].split("_")[1]) < time.time() - _STALE_SECONDS:
            client.command(f"DROP TABLE IF EXISTS {row['name']}")
