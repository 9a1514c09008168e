"""From a published window to the headers of a threshold event."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from meterfold_processor.checker.judge import Judgement, Target
from meterfold_processor.checker.judged import Crossing, JudgedState, ReadPositions, Terms
from meterfold_processor.checker.panes import Window
from meterfold_processor.checker.records import Records
from meterfold_processor.checker.rows import _SHAPE, read_message, rows_of
from meterfold_processor.checker.traces import NO_TRACES, Traces
from meterfold_processor.columns.tables import TRACES, WINDOWS
from meterfold_schemas.events import ThresholdEvent, ThresholdState
from meterfold_schemas.periods import DAY, Period
from meterfold_schemas.topics import Topics
from meterfold_schemas.traces import TraceContext, traceparent
from meterfold_schemas.vocabulary import Action, Level

FIRST, SECOND = traceparent(11, 1, 1), traceparent(12, 2, 0)


def message(parents: Any, states: Any = None, first: int = 0, **changed: Any) -> bytes:
    """Windows whose newest events have the offsets from `first` on."""
    rows = len(parents)
    values: dict[str, list[Any]] = {
        field.name: ["s"] * rows if pa.types.is_large_string(field.type) else [0] * rows for field in WINDOWS
    }
    values["folded_through"] = list(range(first, first + rows))
    table = pa.Table.from_pydict(values, schema=WINDOWS)
    table = table.append_column(TRACES[0], pa.array(parents, pa.binary()))
    table = table.append_column(TRACES[1], pa.array(states or [None] * rows, pa.binary()))
    for name, column in changed.items():
        at = table.schema.get_field_index(name)
        table = table.remove_column(at) if column is None else table.set_column(at, name, column)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes()


def test_the_trace_of_a_row_is_found_by_its_newest_event() -> None:
    read = [
        read_message(message([FIRST, None, SECOND], [b"a=1", b"b=2", None])),
        read_message(message([SECOND], first=9)),
    ]
    traces = Traces([found for _, found in read if found is not None])
    assert traces.of(0) == TraceContext(FIRST, b"a=1")
    assert traces.of(1) is None
    assert traces.of(2) == traces.of(9) == TraceContext(SECOND)
    assert traces.of(3) is None
    assert NO_TRACES.of(0) is None


def test_a_damaged_trace_is_no_trace_and_its_window_counts() -> None:
    rows, found = read_message(message([b"\xff" * 55, FIRST]))
    assert rows.num_rows == 2
    assert found is not None
    assert (Traces([found]).of(0), Traces([found]).of(1)) == (None, TraceContext(FIRST))


@pytest.mark.parametrize("column", [None, pa.array(["text", "text"]), pa.array([1, 2])])
def test_columns_of_another_kind_are_ignored(column: Any) -> None:
    rows, found = read_message(message([FIRST, SECOND], traceparent=column))
    assert (rows.num_rows, found) == (2, None)


def test_rows_with_and_without_traces_are_judged_together() -> None:
    """As a new fold beside an old one publishes them, and as a checker that knows no traces reads them."""
    (with_traces, _), plain = read_message(message([FIRST])), message([None], traceparent=None, tracestate=None)
    (without, found) = read_message(plain)
    assert found is None
    assert len(rows_of(pa.concat_tables([with_traces, without]))) == 2
    raw = pa.ipc.open_stream(message([FIRST])).read_all()
    assert raw.select(_SHAPE.names).equals(without.replace_schema_metadata())


def test_the_events_of_a_judgement_carry_the_trace_and_the_rest_is_the_same() -> None:
    window = Window(("acme", "api.calls", "user", "u1"), Period.DAILY, 3 * DAY, 4 * DAY)
    state = JudgedState(2, (1, 1), ReadPositions(5, 1, 1), 120, Terms("cap", 100, 80, Action.ALERT))
    events = (
        Crossing("threshold.approaching", Level.APPROACHING, 1),
        Crossing("threshold.exceeded", Level.EXCEEDED, 1),
    )
    judgement = Judgement(Target("t1", window), state, events)
    records = Records(Topics(""), 0)
    plain, traced = records.judgement(judgement, 5), records.judgement(judgement, 5, TraceContext(FIRST, b"a=1"))
    assert [(m.topic, m.key, m.value, m.partition) for m in traced] == [
        (m.topic, m.key, m.value, m.partition) for m in plain
    ]
    assert traced[0] == plain[0]
    assert ThresholdState.from_bytes(traced[0].value).folded_through == 5
    for before, after in zip(plain[1:], traced[1:], strict=True):
        assert after.headers == (*before.headers, ("traceparent", FIRST), ("tracestate", b"a=1"))
        assert ThresholdEvent.from_bytes(after.value).event_id == dict(after.headers)["ce_id"].decode()
