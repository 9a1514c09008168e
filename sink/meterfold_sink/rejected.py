"""Rejected messages one by one, and what was done about them: rejected_redrives.

A message is named by its position, the partition and offset of usage.recorded. Only messages of the record retention
are found: the claims of older ones may have expired, and without them a message could be sent again as two different
events. Keys and values may be any bytes, so they travel in hexadecimal digits.

Tables are sorted by partition, arrival and offset. What is looked up has its arrival in the condition, so that a few
granules are read of tables that can have any size; the arrival of a position is looked up first, in three narrow
columns. No FINAL there: a repeated row is the same row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from meterfold_schemas.keys import SUBJECT
from meterfold_schemas.periods import from_micros, micros
from meterfold_sink.keyset import Key, Keys, Position, RowPage, behind, micros_of, ordered, sorted_by

if TYPE_CHECKING:
    from meterfold_sink.client import Client

__all__ = [
    "REJECTED_SORTS",
    "Claim",
    "Place",
    "RejectedRow",
    "RejectionFilter",
    "Result",
    "RowKey",
    "Sent",
    "StoredRedrive",
    "count_rejected",
    "find_keys",
    "find_partitions",
    "keys_at",
    "list_rejected",
    "read_redrives",
    "rejected_rows",
    "results_at",
    "write_claims",
    "write_sent",
]

Place = tuple[int, int]
"""Partition and offset of usage.recorded."""


class RowKey(NamedTuple):
    """The sort key of a rejected message: `stamp` is its arrival in UTC microseconds."""

    partition: int
    stamp: int
    offset: int

    @property
    def place(self) -> Place:
        return self.partition, self.offset


_KINDS: Final = {
    "counted": "SELECT partition, offset, 'counted' AS kind, '' AS reason, '' AS detail, toInt64(-1) AS counted_offset "
    "FROM usage_records WHERE ",
    "duplicate": "SELECT partition, offset, 'duplicate' AS kind, '' AS reason, '' AS detail, counted_offset "
    "FROM usage_duplicates WHERE ",
    "rejected": "SELECT partition, offset, 'rejected' AS kind, CAST(reason AS String) AS reason, detail, "
    "toInt64(-1) AS counted_offset FROM usage_rejected WHERE ",
}
_TOGETHER: Final = 1000
"""Places of one statement: they travel in its address."""
_KEY: Final = "partition, toUnixTimestamp64Micro(received_at) AS stamp, offset"
_FINAL: Final = {"do_not_merge_across_partitions_select_final": 1}
_COLUMNS: Final = (
    f"partition, offset, received_at, {', '.join(SUBJECT)}, reason, detail, hex(key) AS key, hex(value) AS value"
)
_KEPT: Final = (
    "received_at >= now64(6, 'UTC') - toIntervalSecond((SELECT toInt64(value) FROM fold_settings FINAL "
    "WHERE name = 'record_retention_seconds'))"
)
_AT: Final = "(partition, offset) IN (SELECT arrayJoin(arrayZip({partitions:Array(Int32)}, {offsets:Array(Int64)})))"
_WITHIN: Final = (
    "received_at BETWEEN fromUnixTimestamp64Micro({earliest:Int64}, 'UTC') "
    "AND fromUnixTimestamp64Micro({latest:Int64}, 'UTC')"
)
_BY_KEY: Final = (
    "(partition, received_at, offset) IN (SELECT key.1, fromUnixTimestamp64Micro(key.2, 'UTC'), key.3 FROM (SELECT "
    "arrayJoin(arrayZip({partitions:Array(Int32)}, {stamps:Array(Int64)}, {offsets:Array(Int64)})) AS key))"
)
_SENT: Final = (
    "(partition, received_at, offset) IN (SELECT partition, received_at, offset FROM rejected_redrives WHERE {})"
)


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row of usage_rejected."""

    partition: int
    offset: int
    received_at: datetime
    org_id: str
    metric_key: str
    subject_type: str
    subject_id: str
    reason: str
    detail: str
    key: bytes = field(repr=False)
    value: bytes = field(repr=False)

    @property
    def place(self) -> Place:
        return self.partition, self.offset

    @property
    def row_key(self) -> RowKey:
        return RowKey(self.partition, micros(self.received_at), self.offset)


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectionFilter:
    """Which rejected messages. None: any. `since` and `until` are arrival times, the second exclusive. `redriven`:
    whether it was sent again."""

    reason: str | None = None
    org_id: str | None = None
    metric_key: str | None = None
    subject_type: str | None = None
    subject_id: str | None = None
    partition: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    redriven: bool | None = None

    def condition(self) -> tuple[str, dict[str, Any]]:
        names = ("reason", "org_id", "metric_key", "subject_type", "subject_id")
        given: dict[str, Any] = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        conditions = [f"{name} = {{{name}:String}}" for name in given]
        keys = []
        if self.partition is not None:
            keys.append("partition = {partition:Int32}")
            given["partition"] = self.partition
        for name, comparison, value in (("since", ">=", self.since), ("until", "<", self.until)):
            if value is not None:
                keys.append(f"received_at {comparison} fromUnixTimestamp64Micro({{{name}:Int64}}, 'UTC')")
                given[name] = max(micros(value), 0)
        if self.redriven is not None:
            # As few of those that were sent as the other conditions allow: they are a set in memory.
            sent = _SENT.format(" AND ".join(["fact = 'sent'", *keys]))
            conditions.append(sent if self.redriven else f"NOT {sent}")
        return " AND ".join([_KEPT, *keys, *conditions]), given


@dataclass(frozen=True, slots=True)
class Claim:
    """With which event a message is redriven: the key and value to send, by whom and why."""

    received_at: datetime
    key: bytes = field(repr=False)
    value: bytes = field(repr=False)
    by: str
    note: str


@dataclass(frozen=True, slots=True)
class Sent:
    """Where the event of a claim was written."""

    received_at: datetime
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class StoredRedrive:
    """The claim that won, its age in seconds by ClickHouse's clock, and where its event was written, and when that was
    stored, if it was."""

    claim: Claim
    at: datetime
    age: float
    sent: Place | None
    sent_at: datetime | None


@dataclass(frozen=True, slots=True)
class Result:
    """What the fold made of an event. `reason` and `detail` of a rejected one, `counted_offset` of a duplicate: where
    its identity was counted, in the same partition."""

    kind: Literal["counted", "duplicate", "rejected"]
    reason: str
    detail: str
    counted_offset: int | None


REJECTED_SORTS: Final[Mapping[str, Keys]] = {
    "received_at": (micros_of("received_at"), Key("partition", "Int64"), Key("offset", "Int64"))
}
"""What rejected messages can be sorted by."""
NEWEST: Final = ordered(REJECTED_SORTS["received_at"], descending=True)


def list_rejected(
    client: Client,
    wanted: RejectionFilter,
    keys: Keys = NEWEST,
    *,
    limit: int,
    offset: int = 0,
    after: Position | None = None,
) -> RowPage[RejectedRow]:
    """Raises Retryable or Fatal, as every function here."""
    total = sum(count_rejected(client, wanted).values())
    if not total:
        return RowPage([], 0, None)
    condition, parameters = wanted.condition()
    further, position = behind(keys, after)
    sql = (
        f"SELECT {_KEY} FROM usage_rejected FINAL WHERE {condition} AND {further} "  # noqa: S608
        f"ORDER BY {sorted_by(keys)} LIMIT {{limit:UInt32}} OFFSET {{skip:UInt64}}"
    )
    rows = client.rows(sql, {**parameters, **position, "limit": limit + 1, "skip": offset}, _FINAL)
    page = [RowKey(**row) for row in rows[:limit]]
    found = {row.row_key: row for row in rejected_rows(client, page)}
    shown = [found[key] for key in page if key in found]
    end = (page[-1].stamp, page[-1].partition, page[-1].offset) if len(rows) > limit else None
    return RowPage(shown, total, end)


def count_rejected(client: Client, wanted: RejectionFilter) -> dict[str, int]:
    """reason -> messages."""
    condition, parameters = wanted.condition()
    sql = (
        f"SELECT reason, toInt64(count()) AS n FROM usage_rejected FINAL WHERE {condition} "  # noqa: S608
        "GROUP BY reason ORDER BY n DESC, reason"
    )
    return {row["reason"]: row["n"] for row in client.rows(sql, parameters, _FINAL)}


def find_partitions(client: Client, wanted: RejectionFilter) -> list[int]:
    """The partitions with such messages, whether or not they were sent again."""
    condition, parameters = replace(wanted, redriven=None).condition()
    sql = f"SELECT DISTINCT partition FROM usage_rejected WHERE {condition} ORDER BY partition"  # noqa: S608
    return [row["partition"] for row in client.rows(sql, parameters)]


def find_keys(
    client: Client, wanted: RejectionFilter, partition: int, *, after: RowKey | None, limit: int
) -> list[tuple[RowKey, int]]:
    """(key, size in bytes) of such messages of one partition behind `after`, in the table's order."""
    since = wanted.since if after is None else from_micros(after.stamp)
    condition, parameters = replace(wanted, partition=partition, since=since).condition()
    if after is not None:
        condition += " AND (received_at > fromUnixTimestamp64Micro({since:Int64}, 'UTC') OR offset > {behind:Int64})"
        parameters["behind"] = after.offset
    sql = (
        f"SELECT {_KEY}, toInt64(length(value)) AS size FROM usage_rejected FINAL WHERE {condition} "  # noqa: S608
        "ORDER BY partition, received_at, offset LIMIT {limit:UInt32}"
    )
    rows = client.rows(sql, {**parameters, "limit": limit}, _FINAL)
    return [(RowKey(row["partition"], row["stamp"], row["offset"]), row["size"]) for row in rows]


def keys_at(client: Client, places: Sequence[Place]) -> list[RowKey]:
    """The keys of the rejected messages at these places; none where none was rejected, or its row has expired."""
    sql = f"SELECT DISTINCT {_KEY} FROM usage_rejected WHERE {_KEPT} AND {_AT}"  # noqa: S608
    return [RowKey(**row) for some in _places(places) for row in client.rows(sql, some)]


def rejected_rows(client: Client, keys: Sequence[RowKey]) -> Iterator[RejectedRow]:
    """The messages with these keys, in any order."""
    sql = f"SELECT {_COLUMNS} FROM usage_rejected WHERE {_BY_KEY} LIMIT 1 BY partition, received_at, offset"  # noqa: S608
    for some in _by_key(keys):
        yield from map(_row, client.rows(sql, some))


def read_redrives(client: Client, keys: Sequence[RowKey]) -> dict[Place, StoredRedrive]:
    """place -> the redrive of the message; no entry where there is none."""
    sql = (
        "SELECT partition, offset, received_at, fact, by, note, hex(key) AS key, hex(value) AS value, "  # noqa: S608
        "sent_partition, sent_offset, at, toFloat64(dateDiff('microsecond', at, now64(6, 'UTC'))) / 1e6 AS age "
        f"FROM rejected_redrives FINAL WHERE {_BY_KEY} ORDER BY partition, offset, fact"
    )
    found: dict[Place, StoredRedrive] = {}
    for row in (row for some in _by_key(keys) for row in client.rows(sql, some, _FINAL)):
        place = row["partition"], row["offset"]
        if row["fact"] == "claim":
            claim = Claim(
                row["received_at"], bytes.fromhex(row["key"]), bytes.fromhex(row["value"]), row["by"], row["note"]
            )
            found[place] = StoredRedrive(claim, row["at"], row["age"], None, None)
        elif place in found:  # the claim sorts first
            claimed = found[place]
            sent = row["sent_partition"], row["sent_offset"]
            found[place] = replace(claimed, sent=sent, sent_at=row["at"])
    return found


def results_at(client: Client, places: Sequence[Place], *, earliest: int, latest: int) -> dict[Place, Result]:
    """place -> what the fold made of the event there, which arrived from `earliest` to `latest` (UTC microseconds); no
    entry where it is not folded, or its row has expired."""
    sql = " UNION ALL ".join(f"{select}{_WITHIN} AND {_AT}" for select in _KINDS.values())
    within = {"earliest": max(earliest, 0), "latest": max(latest, 0)}
    found: dict[Place, Result] = {}
    for row in (row for some in _places(places) for row in client.rows(sql, some | within)):
        counted = row["counted_offset"]
        result = Result(row["kind"], row["reason"], row["detail"], None if counted < 0 else counted)
        found[(row["partition"], row["offset"])] = result
    return found


def write_claims(client: Client, claims: Mapping[Place, Claim]) -> None:
    """Store claims. A message that has one already keeps it."""
    import pyarrow as pa

    rows = list(claims.items())
    _write(
        client,
        "claim",
        [(place, claim.received_at) for place, claim in rows],
        {
            "by": [claim.by for _, claim in rows],
            "note": [claim.note for _, claim in rows],
            "key": pa.array([claim.key for _, claim in rows], pa.binary()),
            "value": pa.array([claim.value for _, claim in rows], pa.binary()),
        },
    )


def write_sent(client: Client, sent: Mapping[Place, Sent]) -> None:
    """Store where events were written; of an event that was written twice, the first place stays."""
    import pyarrow as pa

    rows = list(sent.items())
    _write(
        client,
        "sent",
        [(place, one.received_at) for place, one in rows],
        {
            "sent_partition": pa.array([one.partition for _, one in rows], pa.int32()),
            "sent_offset": pa.array([one.offset for _, one in rows], pa.int64()),
        },
    )


def _write(client: Client, fact: str, rows: Sequence[tuple[Place, datetime]], columns: Mapping[str, Any]) -> None:
    import pyarrow as pa

    from meterfold_sink.writers import Writer

    stamps = [micros(received_at) for _, received_at in rows]
    table = {
        "partition": pa.array([place[0] for place, _ in rows], pa.int32()),
        "offset": pa.array([place[1] for place, _ in rows], pa.int64()),
        "received_at": pa.array(stamps, pa.int64()).cast(pa.timestamp("us", "UTC")),
        "fact": [fact] * len(rows),
        **columns,
    }
    Writer(client).insert("rejected_redrives", pa.table(table))


def _places(places: Sequence[Place]) -> Iterator[dict[str, Any]]:
    for first in range(0, len(places), _TOGETHER):
        some = places[first : first + _TOGETHER]
        yield {"partitions": [partition for partition, _ in some], "offsets": [offset for _, offset in some]}


def _by_key(keys: Sequence[RowKey]) -> Iterator[dict[str, Any]]:
    for first in range(0, len(keys), _TOGETHER):
        some = keys[first : first + _TOGETHER]
        yield {
            "partitions": [key.partition for key in some],
            "stamps": [key.stamp for key in some],
            "offsets": [key.offset for key in some],
        }


def _row(row: Mapping[str, Any]) -> RejectedRow:
    return RejectedRow(**{**row, "key": bytes.fromhex(row["key"]), "value": bytes.fromhex(row["value"])})
