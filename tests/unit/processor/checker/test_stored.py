"""Pieces of stored windows: the pieces of a sweep are one query, or another one behind the last key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from meterfold_processor.checker import stored
from meterfold_processor.checker.operations import LoadWindows, Piece
from meterfold_processor.checker.stored import CheckerStore
from meterfold_schemas.errors import Retryable
from meterfold_schemas.periods import Period
from meterfold_schemas.settings import ClickHouseSettings

ROWS = 10
WANTED = LoadWindows(
    partition=0,
    sweep=1,
    ends_after=0,
    periods=frozenset({Period.DAILY}),
    start=None,
    affected=None,
    after=None,
    rows=3,
)


def key(number: int) -> tuple[int, int, str, str, str, str]:
    return 2, 0, "acme", "calls", "user", f"u{number}"


class Queries:
    """Answers with rows u0 to u9 in batches of four, from any key on."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.closed = 0
        self.broken = False

    def __call__(self, _client: object, partition: int, **wanted: Any) -> Iterator[pa.RecordBatch]:
        self.asked.append(wanted["after"])
        first = 0 if wanted["after"] is None else int(wanted["after"][5][1:]) + 1
        try:
            for begin in range(first, ROWS, 4):
                if self.broken:
                    raise Retryable("ClickHouse is gone")
                yield self.batch(range(begin, min(begin + 4, ROWS)))
        finally:
            self.closed += 1

    @staticmethod
    def batch(numbers: range) -> pa.RecordBatch:
        count = len(numbers)
        columns = {
            "org_id": ["acme"] * count,
            "metric_key": ["calls"] * count,
            "subject_type": ["user"] * count,
            "subject_id": [f"u{number}" for number in numbers],
            "period_type": pa.array([2] * count, pa.int8()),
            "period_start": pa.array([0] * count, pa.timestamp("us", "UTC")),
        }
        return pa.RecordBatch.from_pydict(columns)


@pytest.fixture
def queries(monkeypatch: pytest.MonkeyPatch) -> Queries:
    found = Queries()
    monkeypatch.setattr(stored, "iter_windows_by_key", found)
    monkeypatch.setattr(stored, "connect", lambda settings: None)
    return found


def names(piece: Piece) -> list[str]:
    return [] if piece.table is None else piece.table.column("subject_id").to_pylist()


def test_a_sweep_is_one_query(queries: Queries) -> None:
    store = CheckerStore(ClickHouseSettings(url="http://localhost:1"))
    seen: list[str] = []
    after = None
    for _ in range(4):
        piece = store.windows(replace(WANTED, after=after))
        seen += names(piece)
        after = piece.last
    assert after is None
    assert seen == [f"u{number}" for number in range(ROWS)]
    assert (queries.asked, queries.closed) == ([None], 1)
    store.close()


@pytest.mark.parametrize("other", [{"sweep": 2}, {"partition": 1}, {"after": key(5)}])
def test_anything_else_is_another_query(queries: Queries, other: dict[str, Any]) -> None:
    store = CheckerStore(ClickHouseSettings(url="http://localhost:1"))
    first = store.windows(WANTED)
    assert (names(first), first.last) == (["u0", "u1", "u2"], key(2))
    store.windows(replace(WANTED, **{"after": first.last, **other}))
    assert queries.asked == [None, other.get("after", key(2))]
    assert queries.closed == 1


def test_after_a_pause_or_a_failure_it_is_asked_again_behind_the_last_key(
    queries: Queries, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CheckerStore(ClickHouseSettings(url="http://localhost:1"))
    first = store.windows(replace(WANTED, rows=4))
    monkeypatch.setattr(stored, "_IDLE_SECONDS", -1.0)
    second = store.windows(replace(WANTED, after=first.last, rows=2))
    assert names(second) == ["u4", "u5"]
    monkeypatch.setattr(stored, "_IDLE_SECONDS", 60.0)
    queries.broken = True
    with pytest.raises(Retryable):
        store.windows(replace(WANTED, after=second.last))
    queries.broken = False
    third = store.windows(replace(WANTED, after=second.last))
    assert names(third) == ["u6", "u7", "u8"]
    assert queries.asked == [None, key(3), key(5)]
    assert queries.closed == 2
