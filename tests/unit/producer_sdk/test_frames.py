"""`record_batch` of a frame gives what the same rows give one by one: messages to the byte, statuses, ids, errors."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterfold.batch import BatchResults
from meterfold.disabled import Disabled
from meterfold.errors import BufferFull, InvalidUsage, MeterfoldError
from meterfold.event_ids import EventIds
from meterfold.frames.batch import FrameBatch
from meterfold.frames.generated_ids import new_ids
from meterfold.meter import Meter
from meterfold.metrics import DefinedMetrics
from meterfold.recorder import Recorder
from meterfold.subjects import Resolvers
from meterfold.testing.meters import InMemoryMeter
from meterfold_schemas.quantities import MAX_UNSCALED

NOW = datetime.now(UTC)
CONTEXT = Context(prec=60)


class Taken(Disabled):
    """Keeps every message; has room for some."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.messages: list[tuple[bytes, bytes]] = []
        self.room = room

    def send(self, key: bytes, value: bytes, wait: float | None = None, on_report: Any = None) -> None:
        if len(self.messages) >= self.room:
            raise BufferFull("full")
        self.messages.append((key, value))


def meter_of(recorder: Recorder, room: int) -> tuple[Meter, Taken]:
    meter = InMemoryMeter[Any]()
    taken = Taken(room)
    meter._recorder, meter._transport = recorder, taken
    return meter, taken


def recorder_of(**options: Any) -> Recorder:
    return Recorder("default", Resolvers(), **options)


class ByRow(Recorder):
    """The way of `record`, for frames as well."""

    def frame(self, events: Any) -> None:
        return None


def told(results: BatchResults, *, generated: bool) -> list[tuple[Any, ...]]:
    return [
        (one.status, None if generated else one.id, None if one.error is None else (one.error.code, str(one.error)))
        for one in results
    ]


def assert_same(frame: Any, *, room: int = 10**9, slice_rows: int = 3, **options: Any) -> None:
    by_row, expected = meter_of(ByRow("default", Resolvers(), **options), room)
    by_column, found = meter_of(recorder_of(**options), room)
    names = list(frame.column_names if isinstance(frame, pa.Table) else frame.columns)
    generated = "id" not in names
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("meterfold.meter._SLICE_ROWS", slice_rows)
        patch.setattr("meterfold.recorder.time", Frozen())
        one, other = by_row.record_batch(frame), by_column.record_batch(frame)
    assert told(other, generated=generated) == told(one, generated=generated)
    if not generated:
        assert found.messages == expected.messages
        return
    # Ids of their own: the rest of the value is the same.
    head, size = 10 + 1, 36
    assert [(k, v[:head] + v[head + size :]) for k, v in found.messages] == [
        (k, v[:head] + v[head + size :]) for k, v in expected.messages
    ]
    ids = [v[head : head + size].decode() for _, v in found.messages]
    assert ids == [one.id for one in other if one.status == "accepted"]
    assert len(set(ids)) == len(ids)


class Frozen:
    def time_ns(self) -> int:
        return int(NOW.timestamp()) * 1_000_000_000


TEXT = st.one_of(
    st.none(),
    st.sampled_from(
        ["", "ada", "a\0b", 'quo"te', "back\\slash", "\n", "x" * 512, "x" * 513, "é" * 256, "é" * 257, "😀"]
    ),
    st.text(max_size=8),
)
METRIC = st.one_of(st.none(), st.sampled_from(["api.calls", "a", "A", "", "x" * 200, "x" * 201, "a b", "api.calls\n"]))
METADATA = st.one_of(
    st.none(),
    st.sampled_from(
        [
            "{}",
            ' {"a" : "b", "c":1, "d":-0.5,"e":null ,"f":true}\n',
            '{"a":{"b":[1,2]}}',
            '{"a":"\\u0000"}',
            '{"a":"\\ud800"}',
            '{"a":01}',
            '{"a":1e999}',
            '{"a":NaN}',
            '{"a":1,}',
            '{"a":1 "b":2}',
            "[1]",
            "x",
            "",
            '{"a":"' + "x" * 16_384 + '"}',
            '{"a":"\n"}',
            '{"é":"ü"}',
        ]
    ),
)
INTEGER = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.integers(-3, 300))
FLOAT = st.one_of(
    st.none(),
    st.floats(),
    st.floats(-1e7, 1e7),
    st.decimals(-(10**9), 10**9, places=3).map(float),
    st.decimals(-1000, 1000, places=9).map(float),
    st.sampled_from([0.1 + 0.2, -0.0, 1e15, 1e16, 2.0**53, 1e22, 999999.999999999, 1000000.0000001, 1e-9, 1e-10]),
)
UNSCALED = st.one_of(
    st.integers(-(10**38) + 1, 10**38 - 1),
    st.integers(-(10**20), 10**20),
    st.sampled_from([0, 1, -1, 127, 128, -128, -129, MAX_UNSCALED, -MAX_UNSCALED, MAX_UNSCALED + 1, -MAX_UNSCALED - 1]),
    st.sampled_from([sign * 2**bits + more for sign in (1, -1) for bits in (7, 63, 64, 71, 95) for more in (-1, 0, 1)]),
)


def decimals(scale: int) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), UNSCALED.map(lambda number: Decimal(number).scaleb(-scale, CONTEXT)))


NUMBER_TEXT = st.one_of(
    st.none(),
    st.sampled_from(
        ["1", "-1.5", "1e3", "+5", ".5", "5.", "0" * 30, "1" * 21, "0.0000000001", "x", "", " 1", "1\n", "٣"]
    ),
    st.decimals(-(10**19), 10**19, places=9).map(lambda value: f"{value:f}"),
)
QUANTITIES: dict[Any, st.SearchStrategy[Any]] = {
    pa.int64(): INTEGER,
    pa.uint64(): st.one_of(st.none(), st.integers(0, 2**64 - 1)),
    pa.int8(): st.one_of(st.none(), st.integers(-128, 127)),
    pa.float64(): FLOAT,
    pa.float32(): st.one_of(st.none(), st.floats(width=32)),
    pa.decimal128(38, 9): decimals(9),
    pa.decimal128(38, 0): decimals(0),
    pa.decimal128(38, 2): decimals(2),
    pa.decimal128(38, 12): decimals(12),
    pa.string(): NUMBER_TEXT,
    pa.bool_(): st.one_of(st.none(), st.booleans()),
}
MOMENT = st.one_of(
    st.none(),
    st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=st.just(UTC)),  # noqa: DTZ001
    st.integers(-(40 * 86_400), 86_400).map(lambda seconds: NOW + timedelta(seconds=seconds)),
)
ZONES = (None, "UTC", "Europe/Berlin")


STRUCT = pa.struct(
    [
        ("a", pa.string()),
        ("b", pa.int32()),
        ("c", pa.float64()),
        ("d", pa.bool_()),
        ("e", pa.struct([("f", pa.float32())])),
    ]
)
NUMBER = st.none() | st.floats(width=32) | st.integers(-(10**6), 10**6).map(float) | st.just(-0.0)
VALUES = st.none() | st.fixed_dictionaries(
    {
        "a": TEXT | st.none(),
        "b": st.none() | st.integers(-(2**31), 2**31 - 1),
        "c": NUMBER | st.floats(),
        "d": st.none() | st.booleans(),
        "e": st.none() | st.fixed_dictionaries({"f": NUMBER}),
    }
)
PAIRS = st.none() | st.lists(st.tuples(st.sampled_from(["k", "l", "m", 'q"']), NUMBER), max_size=3)


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """Any columns of any of the types, some rows of them bad."""
    rows = draw(st.integers(0, 9))

    def column(values: st.SearchStrategy[Any], kind: Any) -> Any:
        return pa.array(draw(st.lists(values, min_size=rows, max_size=rows)), kind)

    texts = st.sampled_from([pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
    found = {
        "metric_key": column(METRIC, draw(texts)),
        "subject_type": column(TEXT, pa.string()),
        "subject_id": column(*draw(st.sampled_from([(TEXT, pa.string()), (INTEGER, pa.int64())]))),
    }
    few = st.sampled_from(["e-1", "e-2", "e-3", None, ""])
    for name, choices in {
        "org_id": [(TEXT, pa.string()), (INTEGER, pa.int64())],
        "id": [(few, pa.string()), (st.integers(0, 3), pa.int16()), (TEXT, pa.string())],
        "source": [(TEXT, pa.string()), (INTEGER, pa.int64()), (st.none(), pa.null())],
        "resource_type": [(TEXT, pa.large_string())],
        "resource_id": [(TEXT, pa.string()), (INTEGER, pa.int64())],
        "metadata": [(METADATA, pa.string()), (VALUES, STRUCT), (PAIRS, pa.map_(pa.string(), pa.float64()))],
    }.items():
        if draw(st.booleans()):
            found[name] = column(*draw(st.sampled_from(choices)))
    if draw(st.booleans()):
        kind, values = draw(st.sampled_from(list(QUANTITIES.items())))
        found["quantity"] = column(values, kind)
    if draw(st.booleans()):
        found["timestamp"] = column(MOMENT, pa.timestamp("us", draw(st.sampled_from(ZONES))))
    return pa.table(found)


def test_structs_and_maps_are_encoded_by_column_and_as_their_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """No row takes the way of `record` but those that need escapes, an exponent, or have a key twice."""
    rows: list[Any] = [
        {"model": "large", "n": 3, "price": 2.0, "hot": True, "where": {"zone": "eu", "rack": None}},
        {"model": None, "n": -1, "price": 0.1, "hot": False, "where": None},
        None,
        {"model": "ünï\u2028", "n": 2**62, "price": -0.0, "hot": None, "where": {"zone": "", "rack": 7}},
    ]
    base = {"metric_key": ["m"] * 4, "subject_type": ["u"] * 4, "subject_id": ["x"] * 4, "id": list("abcd")}
    maps = pa.array([[("a", "x"), ("b", None)], [], None, [("c", "y")]], pa.map_(pa.string(), pa.string()))
    by_row: list[int] = []
    real = FrameBatch._one_by_one
    monkeypatch.setattr(FrameBatch, "_one_by_one", lambda self, places: by_row.extend(places) or real(self, places))
    for metadata in (pa.array(rows), maps, pa.array(rows)[1:].cast(pa.array(rows).type), maps[1:]):
        table = pa.table({name: values[: len(metadata)] for name, values in base.items()} | {"metadata": metadata})
        assert_same(table)
        if not pa.types.is_map(metadata.type):
            assert_same(pl.from_arrow(table))
    assert by_row == []
    wild = pa.array([{"a": 'quo"te', "b": 1e300}, {"a": "\n", "b": 1e-7}, {"a": "x", "b": 1e16}, {"a": "y", "b": 5.5}])
    assert_same(pa.table({**base, "metadata": wild}))
    assert {0, 1, 2} <= set(by_row)
    assert 3 not in by_row
    twice = pa.array([[("k", "1"), ("k", "2")], [("k", "3")], [("k", "4")], []], pa.map_(pa.string(), pa.string()))
    by_row.clear()
    assert_same(pa.table({**base, "metadata": twice}))
    assert set(by_row) == {0}
    # Arrow gives pandas' dictionaries the keys of their neighbours: these rows stay as they are.
    assert_same(pd.DataFrame({**base, "metadata": [{"a": 1}, {"b": 2}, None, {}]}))


def sliced(table: pa.Table) -> pa.Table:
    """The same rows as a part of other buffers, in two chunks."""
    twice = pa.concat_tables([table, table]).combine_chunks()
    rows = table.num_rows
    return pa.concat_tables([twice.slice(rows, rows // 2), twice.slice(rows + rows // 2, rows - rows // 2)])


@settings(max_examples=80)
@given(
    tables(),
    st.integers(0, 12),
    st.sampled_from(
        [
            {},
            {"horizon_seconds": 35 * 86_400, "future_tolerance_seconds": 300},
            {"metrics": DefinedMetrics([("", "a"), ("ada", "api.calls")])},
            {"rounding": "half_even"},
        ]
    ),
)
def test_a_table_is_as_its_rows(table: pa.Table, room: int, options: dict[str, Any]) -> None:
    assert_same(table, room=room, **options)
    assert_same(sliced(table), **options)


FRAMES: dict[str, Callable[[pa.Table], Any]] = {
    "polars": pl.from_arrow,
    "pandas": lambda table: table.to_pandas(),
    "pandas with arrow types": lambda table: table.to_pandas(types_mapper=pd.ArrowDtype),
}


@pytest.mark.parametrize("name", FRAMES)
@settings(max_examples=20)
@given(tables())
def test_a_frame_is_as_its_rows(name: str, table: pa.Table) -> None:
    assert_same(FRAMES[name](table))


def test_repeats_across_slices_and_refused_firsts() -> None:
    ids = ["a", "b", "a", "a", "c", "b", "a"]
    base = {"metric_key": ["m"] * 7, "subject_type": ["u"] * 7, "subject_id": ["x"] * 7, "id": ids}
    for quantity in itertools.product([1, None], repeat=4):
        frame = pa.table({**base, "quantity": pa.array([*quantity, 1, 1, 1], pa.int64())})
        for room in (0, 1, 2, 9):
            assert_same(frame, room=room, slice_rows=2)


def test_new_ids_are_those_of_next() -> None:
    ids = EventIds()
    first = ids.next()
    many = new_ids(ids, 300).to_pylist()
    assert len({first, *many}) == 301
    assert many == sorted(many)
    assert all(len(one) == 36 and one[14] == "7" for one in many)
    assert first < many[0]
    assert many[-1] < ids.next()


def test_the_errors_are_meterfold_errors() -> None:
    meter, _ = meter_of(recorder_of(), 0)
    frame = pl.DataFrame({"metric_key": ["m"], "subject_type": ["u"], "subject_id": ["x"]})
    (result,) = meter.record_batch(frame)
    assert isinstance(result.error, MeterfoldError)


@pytest.mark.parametrize("missing", ["pyarrow", "numpy"])
def test_a_missing_library_names_the_extra(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    meter, _ = meter_of(recorder_of(), 9)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(InvalidUsage, match=rf"DataFrame needs {missing}, .* pip install 'meterfold\[frames\]'$"):
        meter.record_batch(pl.DataFrame({"metric_key": ["m"], "subject_type": ["u"], "subject_id": ["x"]}))
