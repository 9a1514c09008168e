"""Subjects whose windows may differ from a recount of their records: a fast comparison, month by month.

Every month is compared in one statement that reads its windows and its records below the progress once, in passes over
a part of the subjects where it has many windows: that bounds the memory of the server. Each window and its recount are
added up with opposite signs, so that equal ones leave only zeros, whatever the values are; that is exact and needs a
quarter of the CPU of two states side by side.

A month of which nothing is left is proven. The rest is suspected only, since windows are newer than the progress while
the fold works: proof.py looks at the suspects again, in the order that is exact on a running system.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from meterfold_schemas.periods import MICROS_PER_SECOND, Period, from_micros, period_end
from meterfold_sink.reads import END_OF_WINDOW, FINAL

if TYPE_CHECKING:
    from meterfold_sink.client import Client
    from meterfold_sink.rules import FoldRules

__all__ = ["SUBJECT_OF_WINDOW", "Slice", "compare_slice", "slices_of", "suspects_table"]

SUBJECT_OF_WINDOW: Final = "partition, org_id, metric_key, subject_type, subject_id"

_WINDOWS_AT_ONCE: Final = 1_500_000
"""About half a gigabyte of the server's memory."""
_MOST_EXACT: Final = 1_000_000_000
"""The sum of more events of the largest size may not fit into 128 bits: such windows are always looked at again."""
#: No field of a subject holds a NUL. One string is grouped four times as fast as four columns.
_KEY: Final = "concat(toString(org_id), '\\0', toString(metric_key), '\\0', toString(subject_type), '\\0', subject_id)"
#: The order of a record is its timestamp and then its offset, in one number.
_ORDER: Final = "bitShiftLeft(toInt128(toUnixTimestamp64Micro({stamp})), 63) + {offset}"
_LEFT: Final = " OR ".join(f"sum({name}) != 0" for name in ("side", "n", "total", "lo", "hi", "la", "ord", "through"))


@dataclass(frozen=True, slots=True)
class Slice:
    """The windows of one month that lie in [low, high), UTC microseconds, of a part of the subjects; or, where both are
    None, the lifetimes."""

    low: int | None
    high: int | None
    number: int
    passes: int

    def __str__(self) -> str:
        name = "lifetimes" if self.low is None else f"{from_micros(self.low):%Y-%m}"
        return name if self.passes == 1 else f"{name}, part {self.number + 1} of {self.passes}"


def suspects_table(name: str) -> str:
    """The statement that makes an empty table for the subjects."""
    return (
        f"CREATE TABLE {name} (partition Int32, org_id String, metric_key String, subject_type String, "
        "subject_id String) ENGINE = MergeTree ORDER BY (partition, subject_id)"
    )


def slices_of(
    client: Client, rules: FoldRules, partitions: Sequence[int], within: tuple[int, int] | None
) -> list[Slice]:
    """What is to be compared, the earliest month first and lifetimes at the end. `within`: windows that lie in this
    range as a whole, which no lifetime does. Windows whose records may have expired are left out. Raises Retryable or
    Fatal, as every function here."""
    rows = client.rows(
        """
SELECT is_lifetime, toUnixTimestamp64Micro(toDateTime64(month, 6, 'UTC')) AS month,
    toInt64(greatest(sum(windows), intDiv(sum(records), 4))) AS windows, toUnixTimestamp64Micro(now64(6)) AS now
FROM
(
    SELECT period_type = 'lifetime' AS is_lifetime, toStartOfMonth(period_start) AS month, count() AS windows,
        0 AS records
    FROM usage_windows WHERE partition IN {partitions:Array(Int32)} GROUP BY is_lifetime, month
    UNION ALL
    SELECT 0, toStartOfMonth(timestamp), 0, count() FROM usage_records
    WHERE partition IN {partitions:Array(Int32)} GROUP BY toStartOfMonth(timestamp)
)
GROUP BY is_lifetime, month
ORDER BY is_lifetime, month
""",
        {"partitions": list(partitions)},
        FINAL,
    )
    found = list[Slice]()
    for row in rows:
        passes = 1 + row["windows"] // _WINDOWS_AT_ONCE
        if row["is_lifetime"]:
            if within is None:
                found.extend(Slice(None, None, number, passes) for number in range(passes))
            continue
        low, high = row["month"], period_end(Period.MONTHLY, row["month"])
        assert high is not None
        low = max(low, row["now"] - rules.kept_seconds * MICROS_PER_SECOND)
        if within is not None:
            low, high = max(low, within[0]), min(high, within[1])
        if low < high:
            found.extend(Slice(low, high, number, passes) for number in range(passes))
    return found


def compare_slice(
    client: Client,
    rules: FoldRules,
    partitions: Sequence[int],
    next_offsets: Mapping[int, int],
    part: Slice,
    suspects: str,
) -> None:
    """Write the suspects among the subjects of a slice into the table `suspects`. `next_offsets`: partition -> the
    progress, read before."""
    parameters: dict[str, Any] = {
        "partitions": list(partitions),
        "folded": list(next_offsets),
        "next_offsets": list(next_offsets.values()),
        "pass": part.number,
        "passes": part.passes,
    }
    if part.low is None or part.high is None:
        rows = _lifetimes()
    else:
        arrived_from, arrived_until = rules.arrivals(part.low, part.high)
        parameters |= {"low": part.low, "high": part.high, "from": arrived_from, "until": arrived_until}
        rows = _month()
    client.command(
        f"""
INSERT INTO {suspects} ({SUBJECT_OF_WINDOW})
SELECT DISTINCT partition, splitByChar('\\0', k)[1], splitByChar('\\0', k)[2], splitByChar('\\0', k)[3],
    splitByChar('\\0', k)[4]
FROM
(
    SELECT partition, k
    FROM ({rows})
    GROUP BY partition, k, kind, start
    HAVING {_LEFT} OR max(abs(n)) > {_MOST_EXACT}
)
""",  # noqa: S608
        parameters,
        FINAL,
    )


def _chosen() -> str:
    return "partition IN {partitions:Array(Int32)} AND cityHash64(subject_id) % {passes:UInt32} = {pass:UInt32}"


def _states(side: int, condition: str, kind: str, start: str) -> str:
    """Stored windows; with the side -1, as they are to be subtracted."""
    sign = "-" if side < 0 else ""
    order = _ORDER.format(stamp="last_timestamp", offset="last_offset")
    return f"""
    SELECT partition, {_KEY} AS k, {kind} AS kind, {start} AS start, toInt8({side}) AS side, {sign}record_count AS n,
        {sign}sum AS total, {sign}min AS lo, {sign}max AS hi, {sign}last AS la, {sign}({order}) AS ord,
        {sign}folded_through AS through
    FROM usage_windows FINAL
    WHERE {condition} AND {_chosen()}"""  # noqa: S608


def _month() -> str:
    low, high = ("fromUnixTimestamp64Micro({low:Int64}, 'UTC')", "fromUnixTimestamp64Micro({high:Int64}, 'UTC')")
    order = _ORDER.format(stamp="timestamp", offset="offset")
    hours = f"""
    SELECT partition, {_KEY} AS k, toStartOfHour(timestamp) AS hour, toInt64(count()) AS n, sum(quantity) AS total,
        min(quantity) AS lo, max(quantity) AS hi, argMax(quantity, {order}) AS la, max({order}) AS ord,
        max(offset) AS through
    FROM usage_records FINAL
    WHERE {_chosen()} AND timestamp >= {low} AND timestamp < {high}
        AND received_at >= fromUnixTimestamp64Micro({{from:Int64}}, 'UTC')
        AND received_at <= fromUnixTimestamp64Micro({{until:Int64}}, 'UTC')
        AND offset < transform(partition, {{folded:Array(Int32)}}, {{next_offsets:Array(Int64)}}, toInt64(0))
    GROUP BY partition, k, hour"""  # noqa: S608
    # By the hour first: days and months need only the sums of their hours, and the records are read once.
    recounted = f"""
    SELECT partition, k, kind, multiIf(kind = 1, hour, kind = 2, toStartOfDay(hour),
            toDateTime(toStartOfMonth(hour), 'UTC')) AS start,
        sum(n) AS n_, sum(total) AS total_, min(lo) AS lo_, max(hi) AS hi_, argMax(la, ord) AS la_, max(ord) AS ord_,
        max(through) AS through_
    FROM ({hours}) ARRAY JOIN [toInt8(1), toInt8(2), toInt8(3)] AS kind
    GROUP BY partition, k, kind, start"""  # noqa: S608
    stored = _states(
        1,
        f"period_type != 'lifetime' AND period_start >= {low} AND period_start < {high} AND {END_OF_WINDOW} <= {high}",
        "toInt8(period_type)",
        "toUnixTimestamp64Micro(period_start)",
    )
    ends = "multiIf(kind = 1, start + INTERVAL 1 HOUR, kind = 2, start + INTERVAL 1 DAY, start + INTERVAL 1 MONTH)"
    return f"""
    {stored}
    UNION ALL
    SELECT partition, k, kind, toInt64(toUnixTimestamp(start)) * 1000000, toInt8(-1), -n_, -total_, -lo_, -hi_, -la_,
        -ord_, -through_
    FROM ({recounted})
    WHERE start >= {low} AND {ends} <= {high}"""  # noqa: S608


def _lifetimes() -> str:
    """A lifetime is the sum of its months."""
    order = _ORDER.format(stamp="last_timestamp", offset="last_offset")
    lifetimes = _states(1, "period_type = 'lifetime'", "toInt8(4)", "toInt64(0)")
    return f"""
    {lifetimes}
    UNION ALL
    SELECT partition, {_KEY} AS k, toInt8(4), toInt64(0), toInt8(-1), -sum(record_count), -sum(w.sum), -min(w.min),
        -max(w.max), -argMax(w.last, {order}), -max({order}), -max(folded_through)
    FROM usage_windows AS w FINAL
    WHERE period_type = 'monthly' AND {_chosen()}
    GROUP BY partition, k"""  # noqa: S608
