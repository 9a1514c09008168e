"""The trace of a window is that of its newest event, and what is off or missing costs and changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold_processor.columns.tables import WINDOWS
from meterfold_processor.fold.flush import flush, window_messages
from meterfold_processor.fold.messages import columns
from meterfold_processor.fold.partition import Folded
from meterfold_processor.fold.store import Progress
from meterfold_processor.fold.traces import with_traces
from meterfold_schemas.traces import traceparent


def parent(number: int) -> bytes:
    return traceparent(number + 1, number + 1, 1)


def folded(through: list[int]) -> Folded:
    """Windows whose newest events have these offsets."""
    rows = len(through)
    values: dict[str, list[Any]] = {
        field.name: [f"s{n}" for n in range(rows)] if pa.types.is_large_string(field.type) else [0] * rows
        for field in WINDOWS
    }
    windows = pa.Table.from_pydict({**values, "folded_through": through}, schema=WINDOWS)
    nothing = pa.table({"partition": pa.array([], pa.int32())})
    return Folded(3, 1, nothing, nothing, nothing, [], windows, Progress(3, 9, 0, 0, 0, 0, None))


def part(offsets: list[int], rows: list[int] | None = None) -> pl.DataFrame:
    return pl.DataFrame(
        {"offset": offsets, "row": rows or list(range(len(offsets)))}, schema_overrides={"row": pl.Int64}
    )


def traced(number: int) -> list[tuple[str, bytes | None]]:
    return [("other", None), ("traceparent", parent(number))]


@given(
    st.dictionaries(st.integers(0, 30), st.sampled_from(["traced", "none", "other", "wrong"]), min_size=1),
    st.lists(st.integers(0, 40), min_size=1, max_size=20),
)
def test_each_window_has_the_trace_of_its_newest_event(kinds: dict[int, str], through: list[int]) -> None:
    offsets = sorted(kinds)
    made: dict[str, Any] = {"none": lambda _: None, "other": lambda _: [("a", b"b")], "traced": traced}
    made["wrong"] = lambda _: [("traceparent", b"x" * 54)]
    headers = [made[kinds[offset]](offset) for offset in offsets]
    # The part is one partition of what was consumed: its rows are some of all headers.
    rows = [2 * place + 1 for place in range(len(offsets))]
    all_headers = [item for own in headers for item in (traced(99), own)]
    found = with_traces(folded(through), part(offsets, rows), all_headers).traces
    expected = [parent(offset) if kinds.get(offset) == "traced" else None for offset in through]
    if any(expected):
        assert found is not None
        assert found["traceparent"].to_pylist() == expected
        assert found["tracestate"].to_pylist() == [None] * len(through)
    else:
        assert found is None


def test_published_windows_have_the_traces_and_stored_ones_do_not() -> None:
    plain = folded([5, 6])
    done = with_traces(plain, part([5, 6]), [[("tracestate", b"a=1"), *traced(5)], None])
    assert done.windows is plain.windows
    published = [message for step in flush([done]) if step.step == "publish_windows" for _, message in step.messages]
    (table,) = (pa.ipc.open_stream(message).read_all() for message in published)
    assert table.column_names == [*WINDOWS.names, "traceparent", "tracestate"]
    assert table.select(WINDOWS.names).equals(plain.windows)
    assert (table["traceparent"].to_pylist(), table["tracestate"].to_pylist()) == ([parent(5), None], [b"a=1", None])
    (stored,) = (step for step in flush([done]) if step.step == "windows")
    assert stored.rows.schema.equals(WINDOWS)


def test_without_a_trace_the_message_is_the_same() -> None:
    plain = folded([5, 6])
    for headers in ([None, None], [[("a", b"b")], []], [[("traceparent", b"short")], None]):
        same = with_traces(plain, part([5, 6]), headers)
        assert list(window_messages(same.published)) == list(window_messages(plain.windows))


def test_large_messages_are_split_with_their_traces() -> None:
    done = with_traces(folded(list(range(200))), part(list(range(200))), [traced(n) for n in range(200)])
    tables = [pa.ipc.open_stream(message).read_all() for message in window_messages(done.published, 4000)]
    assert len(tables) > 3
    assert pa.concat_tables(tables)["traceparent"].to_pylist() == [parent(n) for n in range(200)]


@dataclass
class Bare:
    """A message whose headers cannot be asked for."""

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return 4

    def timestamp(self) -> tuple[int, int]:
        return 2, 5

    def key(self) -> bytes:
        return b"k"

    def value(self) -> bytes:
        return b"v"


@dataclass
class WithHeaders(Bare):
    found: Any = None

    def headers(self) -> Any:
        if self.found == "damaged":
            b"\xff".decode()
        return self.found


def test_headers_are_read_only_where_they_are_asked_for() -> None:
    assert columns([Bare(), Bare()]).headers is None
    with pytest.raises(AttributeError):
        columns([Bare()], with_headers=True)
    assert columns([WithHeaders(), WithHeaders(traced(1))], with_headers=True).headers == [None, traced(1)]


def test_a_header_name_that_is_not_utf8_costs_its_own_message_the_trace() -> None:
    consumed = columns([WithHeaders(traced(1)), WithHeaders("damaged"), WithHeaders(traced(2))], with_headers=True)
    assert consumed.headers == [traced(1), None, traced(2)]
    assert consumed.offset.tolist() == [4] * 3
    assert np.array_equal(consumed.partition, [0, 0, 0])
