"""The steps of a flush, the columns of its rows, and the messages of windows."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from meterfold_processor.columns.tables import WINDOWS
from meterfold_processor.fold import flush as steps
from meterfold_processor.fold.decode import decode
from meterfold_processor.fold.duplicates import COUNTED_SCHEMA
from meterfold_processor.fold.flush import flush, window_messages
from meterfold_processor.fold.messages import Consumed
from meterfold_processor.fold.partition import Folded, PartitionFold
from meterfold_processor.fold.rules import Rules
from meterfold_processor.fold.store import Progress
from meterfold_schemas.keys import partition_of
from meterfold_schemas.periods import DAY, Period, micros
from meterfold_schemas.usage import UsageRecorded

RULES = Rules(10 * DAY, DAY, DAY, 100 * DAY, 2)
NOW = datetime(2026, 3, 1, 0, 15, tzinfo=UTC)


class Nothing:
    """An empty ClickHouse."""

    def find_records(self, hashes: Any) -> pl.DataFrame:
        return pl.DataFrame(schema=COUNTED_SCHEMA)

    def load_windows(self, period: Period, starts: Any) -> pl.DataFrame:
        return pl.DataFrame(pl.from_arrow(WINDOWS.empty_table()))


def event(name: str, subject: str, **changes: Any) -> UsageRecorded:
    values: dict[str, Any] = {"metric_key": "m", "subject_type": "user", "quantity": 1, "timestamp": NOW, **changes}
    return UsageRecorded(id=name, subject_id=subject, **values)


def subject_on(partition: int) -> str:
    return next(str(n) for n in range(99) if partition_of(event("x", str(n)).key, 2) == partition)


def folded(partition: int, events: list[UsageRecorded | bytes], first: int = 0) -> Folded:
    fold = PartitionFold(
        Progress(partition, first, first, 0, 0, 0, None),
        Nothing(),
        RULES,
        lambda: micros(NOW),
        lambda: None,
        stored=False,
    )
    size = len(events)
    consumed = Consumed(
        np.full(size, partition),
        np.arange(size) + first,
        np.full(size, micros(NOW)),
        [one.key if isinstance(one, UsageRecorded) else b"k" for one in events],
        [one.to_bytes() if isinstance(one, UsageRecorded) else one for one in events],
    )
    answer = fold.fold(decode(consumed).frame, consumed.values, 1)
    assert answer is not None
    return answer


def everything(partition: int, first: int = 0) -> Folded:
    subject = subject_on(partition)
    return folded(partition, [event("a", subject), event("a", subject), b"junk"], first)


def test_the_order_of_the_steps() -> None:
    assert [operation.step for operation in flush([everything(0), everything(1)])] == [
        "records",
        "duplicates",
        "rejected",
        "windows",
        "publish_windows",
        "publish_rejected",
        "progress",
        "commit",
    ]


def test_steps_without_rows_are_left_out() -> None:
    assert [operation.step for operation in flush([folded(0, [b"junk"])])] == [
        "rejected",
        "publish_rejected",
        "progress",
        "commit",
    ]


def test_partitions_side_by_side() -> None:
    operations = {operation.step: operation for operation in flush([everything(0, 5), everything(1)])}
    for step in ("records", "duplicates", "rejected", "windows", "progress"):
        operation = operations[step]
        assert isinstance(operation, steps.InsertRows)
        assert set(operation.rows["partition"].to_pylist()) == {0, 1}
    published = operations["publish_windows"]
    assert isinstance(published, steps.PublishWindows)
    for partition, message in published.messages:
        rows = pa.ipc.open_stream(message).read_all()
        assert set(rows["partition"].to_pylist()) == {partition}
    commit = operations["commit"]
    assert isinstance(commit, steps.CommitOffsets)
    assert commit.offsets == {0: 8, 1: 3}


def test_rows_of_every_table() -> None:
    full = {"org_id": "o", "source": "s", "resource_type": "t", "resource_id": "r", "metadata": '{"a":1}'}
    candidates = (event("a", str(n), quantity=Decimal("2.5"), **full) for n in range(99))
    first = next(one for one in candidates if partition_of(one.key, 2) == 0)
    again = UsageRecorded(**{**{f: getattr(first, f) for f in first.__slots__}, "quantity": 7})
    answer = folded(0, [first, again, b"junk"], 40)
    identity = {"org_id": "o", "metric_key": "m", "subject_type": "user", "subject_id": first.subject_id, "id": "a"}

    (record,) = answer.records.to_pylist()
    assert isinstance(record.pop("identity_hash"), int)
    assert record == {
        **identity,
        "quantity": first.quantity,
        "source": "s",
        "resource_type": "t",
        "resource_id": "r",
        "metadata": '{"a":1}',
        "timestamp": NOW,
        "received_at": NOW,
        "partition": 0,
        "offset": 40,
    }
    (duplicate,) = answer.duplicates.to_pylist()
    where = {"timestamp": NOW, "received_at": NOW, "partition": 0, "offset": 41}
    assert duplicate == {**identity, "quantity": Decimal(7), **where, "counted_offset": 40}
    (rejected,) = answer.rejected.to_pylist()
    assert rejected.pop("detail")
    assert rejected == {
        "partition": 0,
        "offset": 42,
        "received_at": NOW,
        **dict.fromkeys(["org_id", "metric_key", "subject_type", "subject_id"], ""),
        "reason": "undecodable",
        "key": b"k",
        "value": b"junk",
    }
    assert [(o.partition, o.offset, o.key, o.value, o.reason) for o in answer.originals] == [
        (0, 42, b"k", b"junk", "undecodable")
    ]
    assert answer.progress == Progress(0, 43, 40, 1, 1, 1, micros(NOW))

    windows = answer.windows.to_pylist()
    assert [(row["period_type"], row["period_start"]) for row in windows] == [
        (1, datetime(2026, 3, 1, tzinfo=UTC)),
        (2, datetime(2026, 3, 1, tzinfo=UTC)),
        (3, datetime(2026, 3, 1, tzinfo=UTC)),
        (4, datetime(1970, 1, 1, tzinfo=UTC)),
    ]
    for row in windows:
        del row["period_type"], row["period_start"]
        assert row == {
            **{name: identity[name] for name in ("org_id", "metric_key", "subject_type", "subject_id")},
            "partition": 0,
            "record_count": 1,
            **dict.fromkeys(("sum", "min", "max", "last"), first.quantity),
            "last_timestamp": NOW,
            "last_offset": 40,
            "folded_through": 40,
        }


def test_the_types_of_the_columns() -> None:
    answer = everything(0)
    utc, decimal = pa.timestamp("us", "UTC"), pa.decimal128(38, 9)
    assert answer.windows.schema == WINDOWS
    for table in (answer.records, answer.duplicates, answer.rejected):
        assert table.schema.field("partition").type == pa.int32()
        assert table.schema.field("offset").type == pa.int64()
        assert table.schema.field("received_at").type == utc
    assert answer.records.schema.field("quantity").type == answer.duplicates.schema.field("quantity").type == decimal
    assert answer.records.schema.field("identity_hash").type == pa.uint64()
    assert answer.rejected.schema.field("value").type == pa.large_binary()


def test_progress_rows() -> None:
    progress = [Progress(0, 7, 2, 3, 1, 1, 1_700_000_000_000_000), Progress(1, 0, 0, 0, 0, 0, None)]
    insert = steps.progress_rows(progress)
    assert (insert.step, insert.table) == ("progress", "fold_progress")
    assert insert.rows["last_stamp"].to_pylist() == [
        datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),
        datetime(1970, 1, 1, tzinfo=UTC),
    ]
    assert insert.rows["next_offset"].to_pylist() == [7, 0]
    assert insert.rows["counted"].type == pa.uint64()


@pytest.fixture(scope="module")
def windows() -> pa.Table:
    here = [event(str(n), f"{n}-" + "x" * (n % 400)) for n in range(2000)]
    return folded(0, [one for one in here if partition_of(one.key, 2) == 0]).windows


@pytest.mark.parametrize("limit", [3_000, 20_000, 150_000])
def test_messages_stay_below_the_limit(windows: pa.Table, limit: int) -> None:
    messages = list(window_messages(windows, limit))
    parts = [pa.ipc.open_stream(message).read_all() for message in messages]
    assert pa.concat_tables(parts) == windows
    assert len(messages) > windows.nbytes // limit
    assert all(part.nbytes <= limit for part in parts)
    overhead = len(next(window_messages(windows.slice(0, 1))))
    assert max(map(len, messages)) < limit + overhead


def test_one_row_larger_than_the_limit_goes_alone(windows: pa.Table) -> None:
    messages = list(window_messages(windows.slice(0, 5), 1))
    assert len(messages) == 5


def test_no_windows_no_message() -> None:
    assert list(window_messages(WINDOWS.empty_table())) == []
