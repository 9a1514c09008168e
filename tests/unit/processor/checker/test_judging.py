"""The pure parts of the checker against naive oracles."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Context, Decimal
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold_processor.checker.aggregates import AggregateColumns
from meterfold_processor.checker.emitted import pane_of_key, read_emitted
from meterfold_processor.checker.hashing import hashes_of_subjects
from meterfold_processor.checker.judge import Judgement, Target
from meterfold_processor.checker.judged import (
    LEVELS,
    Crossing,
    JudgedState,
    ReadPositions,
    Terms,
    crossings,
    follows,
    judge_again,
    level_of,
)
from meterfold_processor.checker.panes import Subject, Window
from meterfold_processor.checker.records import Records, read_state
from meterfold_processor.checker.rows import Interest, newest, read_message, rows_of
from meterfold_processor.checker.rules import CODES, NEVER, WindowRules, end_of, mark_of
from meterfold_processor.checker.values import TYPE_CODES, values_of
from meterfold_processor.columns.limbs import from_ints
from meterfold_processor.columns.tables import WINDOWS
from meterfold_schemas import cloudevents, keys
from meterfold_schemas.errors import Poison
from meterfold_schemas.events import ThresholdEvent, ThresholdState, UsageAggregated
from meterfold_schemas.periods import DAY, HOUR, Period, from_micros
from meterfold_schemas.quantities import MAX_STORED, to_decimal
from meterfold_schemas.topics import Topics
from meterfold_schemas.totals import WindowValues, average, percentage_used, total_of
from meterfold_schemas.vocabulary import Action, AggregationType

AMOUNTS = st.integers(-MAX_STORED, MAX_STORED)
COUNTS = st.integers(1, 10**9)
TEXTS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=80)
SUBJECT = ("acme", "api.calls", "user", 'u"1')
TERMS = Terms("cap", 100, 80, Action.BLOCK)


@given(AMOUNTS, COUNTS)
def test_average_is_rounded_half_away_from_zero(total: int, count: int) -> None:
    exact = Fraction(total, count)
    found = average(total, count)
    assert abs(found - exact) <= Fraction(1, 2)
    if abs(found - exact) == Fraction(1, 2):
        assert abs(found) > abs(exact)
    wide = Context(prec=100, rounding=ROUND_HALF_UP)
    assert found == int(wide.divide(Decimal(total), Decimal(count)).quantize(Decimal(1), context=wide))


def test_average_beyond_what_decimal128_divides() -> None:
    assert average(10**26 * 10**9, 3) == 33333333333333333333333333333333333
    assert [average(n, 2) for n in (1, -1, 3, -3)] == [1, -1, 2, -2]


@given(st.lists(st.tuples(st.sampled_from(list(AggregationType)), COUNTS, AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS)))
def test_columns_have_the_values_of_single_windows(rows: list[tuple[AggregationType, int, int, int, int, int]]) -> None:
    expected = [total_of(kind, WindowValues(*window)) for kind, *window in rows]
    types = np.array([TYPE_CODES[row[0]] for row in rows], dtype=np.int8)
    count = np.array([row[1] for row in rows], dtype=np.int64)
    amounts = [from_ints([row[n] for row in rows]) for n in range(2, 6)]
    assert values_of(types, count, *amounts).to_ints() == expected


@given(st.lists(st.integers(-50, 200), max_size=30))
def test_crossings_tell_the_whole_story(values: list[int]) -> None:
    """Replaying the events of a sequence of values gives the level of each value, and no id comes twice."""
    state: JudgedState | None = None
    open_levels: set[str] = set()
    seen: set[tuple[str, str, int]] = set()
    for offset, value in enumerate(values):
        level = level_of(value, TERMS)
        events = crossings(state, level)
        if level == (state.level if state else 0):
            assert events == []
            continue
        state = judge_again(state, level, ReadPositions(offset, 0, 0), value, TERMS)
        for event in events:
            assert (event.event_type, event.level, event.number) not in seen
            seen.add((event.event_type, event.level, event.number))
            if event.event_type == "threshold.cleared":
                open_levels.remove(event.level)
            else:
                open_levels.add(event.level)
        naive = {name for name, limit in (("approaching", 80), ("exceeded", 100)) if value >= limit}
        assert open_levels == naive
        assert LEVELS[level] == ("exceeded" if value >= 100 else "approaching" if value >= 80 else "none")


def test_both_levels_at_once() -> None:
    up = crossings(None, 2)
    assert [(e.event_type, e.number) for e in up] == [("threshold.approaching", 1), ("threshold.exceeded", 1)]
    state = judge_again(None, 2, ReadPositions(0, 0, 0), 120, TERMS)
    down = crossings(state, 0)
    assert [(e.event_type, e.level) for e in down] == [
        ("threshold.cleared", "exceeded"),
        ("threshold.cleared", "approaching"),
    ]


@pytest.mark.parametrize("older", [(0, 5, 5), (5, 0, 5), (5, 5, 0)])
def test_nothing_that_is_older_in_any_way_counts(older: tuple[int, int, int]) -> None:
    state = judge_again(None, 1, ReadPositions(1, 1, 1), 90, TERMS)
    assert not follows(state, ReadPositions(*older))
    assert follows(state, ReadPositions(1, 1, 1))
    assert follows(None, ReadPositions(*older))


def test_windows_are_open_final_and_forgotten_in_this_order() -> None:
    rules = WindowRules(open_for=36 * DAY, grace=HOUR)
    end = 100 * DAY
    assert [rules.is_final(end, mark) for mark in (end + HOUR - 1, end + HOUR)] == [False, True]
    assert [rules.is_open(end, end + 36 * DAY - 1), rules.is_open(end, end + 36 * DAY)] == [True, False]
    assert [rules.is_forgotten(end, end + 72 * DAY), rules.is_forgotten(end, end + 72 * DAY + 1)] == [False, True]
    lifetime = end_of(CODES[Period.LIFETIME], 0)
    far = 10**17
    assert lifetime == NEVER
    assert (rules.is_open(NEVER, far), rules.is_final(NEVER, far), rules.is_forgotten(NEVER, far)) == (
        True,
        False,
        False,
    )
    assert (mark_of(7, 5), mark_of(5, 7), mark_of(5, None)) == (5, 5, 0)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=40))
def test_the_newest_row_of_each_window_is_kept(rows: list[tuple[int, int]]) -> None:
    places = np.array([row[0] for row in rows], dtype=np.int64)
    through = np.array([row[1] for row in rows], dtype=np.int64)
    kept = newest(places, through)
    found = {int(places[at]): int(through[at]) for at in kept}
    assert len(found) == len(kept)
    assert found == {place: max(t for p, t in rows if p == place) for place, _ in rows}


def window_table(rows: int = 3, **changed: object) -> pa.Table:
    columns: dict[str, object] = {
        "org_id": ["acme"] * rows,
        "metric_key": ["api.calls", "storage", "api.calls"][:rows],
        "subject_type": ["user"] * rows,
        "subject_id": ["u1", 'u"2', "u1"][:rows],
        "period_type": [1, 2, 4][:rows],
        "period_start": [3600_000_000, 0, 0][:rows],
        "partition": [0] * rows,
        "record_count": [1] * rows,
        **{name: [to_decimal(-5)] * rows for name in ("sum", "min", "max", "last")},
        "last_timestamp": [0] * rows,
        "last_offset": [1] * rows,
        "folded_through": [7] * rows,
        **changed,
    }
    return pa.Table.from_pydict(columns, schema=WINDOWS)


def test_rows_are_read_from_what_the_fold_publishes_and_from_what_clickhouse_answers() -> None:
    table = window_table()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    rows = rows_of(read_message(sink.getvalue().to_pybytes())[0])
    assert [rows.name(row) for row in range(3)] == [
        ("acme", "api.calls", "user", "u1"),
        ("acme", "storage", "user", 'u"2'),
        ("acme", "api.calls", "user", "u1"),
    ]
    assert rows.values(1) == WindowValues(1, -5, -5, -5, -5)
    words = pa.array(["hourly", "daily", "lifetime"])
    answered = table.set_column(4, "period_type", words).set_column(0, "org_id", pa.array(["acme"] * 3))
    for stored in (answered, answered.set_column(4, "period_type", words.dictionary_encode())):
        again = rows_of(stored)
        assert again.periods.tolist() == rows.periods.tolist() == [1, 2, 4]
        assert again.subjects.key.tolist() == rows.subjects.key.tolist()
        assert again.subjects.check.tolist() == rows.subjects.check.tolist()
        assert again.starts.tolist() == [3600_000_000, 0, 0]
    assert rows.subjects.key[0] == rows.subjects.key[2] != rows.subjects.key[1]


def test_rows_that_are_stored_in_a_newer_version_are_left_out() -> None:
    table = window_table(folded_through=[6, 7, 8])
    assert rows_of(table, since=7).through.tolist() == [7, 8]
    assert len(rows_of(table, since=9)) == 0


def test_rows_that_no_one_asks_for_are_left_out() -> None:
    interest = Interest(frozenset({4}), {1: frozenset({"storage"}), 2: frozenset({"storage"})})
    rows = rows_of(window_table(), interest)
    assert rows.periods.tolist() == [2, 4]


def test_no_interest_leaves_nothing() -> None:
    assert len(rows_of(window_table(), Interest(frozenset(), {}))) == 0


@pytest.mark.parametrize("value", [None, b"", b"no arrow", b"\xff" * 200])
def test_a_message_that_is_no_table_is_poison(value: bytes | None) -> None:
    with pytest.raises(Poison):
        read_message(value)


def test_a_table_without_its_columns_or_with_nulls_is_poison() -> None:
    for table in (window_table().drop_columns(["sum"]), window_table(1, record_count=[None])):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        with pytest.raises(Poison):
            read_message(sink.getvalue().to_pybytes())


WINDOW = Window(SUBJECT, Period.DAILY, 3 * DAY, 4 * DAY)
LIFETIME = Window(SUBJECT, Period.LIFETIME, 0, NEVER)
NOW = 4 * DAY + 17


@pytest.mark.parametrize("window", [WINDOW, Window(SUBJECT, Period.LIFETIME, 0, NEVER)])
@given(value=AMOUNTS, threshold=st.integers(1, 10**29), number=st.integers(1, 9))
def test_messages_are_those_of_the_models(window: Window, value: int, threshold: int, number: int) -> None:
    records = Records(Topics("p."), 3)
    target = Target("t1", window)
    terms = Terms("cap", threshold, max(1, threshold // 2), Action.BLOCK)
    state = JudgedState(2, (number, number), ReadPositions(7, 8, 9), value, terms)
    events = (Crossing("threshold.exceeded", LEVELS[2], number), Crossing("threshold.cleared", LEVELS[1], number))
    written = records.judgement(Judgement(target, state, events), NOW)
    model = ThresholdState.from_bytes(written[0].value or b"")
    assert model.to_bytes() == written[0].value
    assert model.key == written[0].key
    assert (written[0].topic, written[0].partition) == ("p.threshold.state", 3)
    assert read_state(written[0].value or b"") == (target, state)
    for message, crossing in zip(written[1:], events, strict=True):
        event = ThresholdEvent.from_bytes(message.value or b"")
        assert event.to_bytes() == message.value
        assert (event.event_type, event.level, event.crossing) == (crossing.event_type, crossing.level, number)
        assert event.percentage_used == percentage_used(to_decimal(value), to_decimal(threshold))
        assert dict(message.headers)["ce_id"] == event.event_id.encode()
        assert message.topic == f"p.{crossing.event_type}"
    exceeded = ThresholdEvent.from_bytes(written[1].value or b"")
    assert model.exceeded_alert_id == exceeded.alert_id


@given(st.lists(st.tuples(AMOUNTS, st.booleans(), st.none() | AMOUNTS, TEXTS, st.booleans()), min_size=1, max_size=5))
def test_aggregates_are_those_of_the_model(events: list[tuple[int, bool, int | None, str, bool]]) -> None:
    columns = aggregate_columns(
        [
            (("acme", "api.calls", "user", text), LIFETIME if lifetime else WINDOW, total, 11 + at, is_final, previous)
            for at, (total, is_final, previous, text, lifetime) in enumerate(events)
        ]
    )
    run = Records(Topics("p."), 5).aggregates(columns, NOW)
    assert (run.topic, run.partition, len(run)) == ("p.usage.aggregated", 5, len(events))
    back = read_emitted(run.values)
    assert back is not None
    assert back.total.to_ints() == [event[0] for event in events]
    assert back.is_final.tolist() == [event[1] for event in events]
    assert back.revision.tolist() == [11 + at for at in range(len(events))]
    for at, (total, is_final, previous, text, lifetime) in enumerate(events):
        event = UsageAggregated.from_bytes(run.values[at])
        assert event.to_bytes() == run.values[at]
        assert (event.key, event.partition, event.occurred_at) == (run.keys[at], 5, from_micros(NOW))
        assert (event.subject_id, event.is_final) == (text, is_final)
        assert event.total_quantity == to_decimal(total)
        assert event.previous_total == (None if previous is None else to_decimal(previous))
        assert dict(run.headers[at]) == {
            "ce_specversion": b"1.0",
            "ce_type": b"usage.aggregated",
            "ce_id": event.event_id.encode(),
            "ce_source": b"/meterfold/checker",
            "ce_subject": cloudevents.headers("", "", "", from_micros(NOW), f"user:{text}")[4][1],
            "ce_time": from_micros(NOW).isoformat(timespec="microseconds").replace("+00:00", "Z").encode(),
            "content-type": b"application/avro",
        }
        window = LIFETIME if lifetime else WINDOW
        assert pane_of_key(run.keys[at]) == (CODES[window.period], window.start)
        assert (int(back.periods[at]), int(back.starts[at])) == (CODES[window.period], window.start)
        name = ("acme", "api.calls", "user", text)
        assert (back.subjects.key[at], back.subjects.check[at]) == tuple(
            int(part[0]) for part in (lambda found: (found.key, found.check))(hashes_of_subjects([name]))
        )


def test_a_value_that_is_no_aggregate_is_poison() -> None:
    columns = aggregate_columns([(SUBJECT, WINDOW, 5, 1, False, None)])
    (value,) = Records(Topics(""), 0).aggregates(columns, NOW).values
    assert read_emitted([]) is None
    for wrong in (b"", b"text", value[:-1], value + b"\0"):
        with pytest.raises(Poison):
            read_emitted([value, wrong])
    for key in (b"", b"key", b'["a","b","c","d","weekly?",0]', b'["a","b","c","d","daily",x]'):
        with pytest.raises(Poison):
            pane_of_key(key)


def aggregate_columns(
    events: list[tuple[Subject, Window, int, int, bool, int | None]],
) -> AggregateColumns:
    """Of (subject, window, total, revision, is_final, previous total)."""
    subjects = list(zip(*(event[0] for event in events), strict=True))
    total = from_ints([event[2] for event in events])
    return AggregateColumns(
        names={name: np.array(texts, object) for name, texts in zip(keys.SUBJECT, subjects, strict=True)},
        periods=np.array([CODES[event[1].period] for event in events], np.int8),
        starts=np.array([event[1].start for event in events]),
        ends=np.array([event[1].end for event in events]),
        count=np.arange(len(events)) + 4,
        amounts={"sum": total, **{name: from_ints([-1] * len(events)) for name in ("min", "max", "last")}},
        total=total,
        revision=np.array([event[3] for event in events]),
        is_final=np.array([event[4] for event in events]),
        has_previous=np.array([event[5] is not None for event in events]),
        previous=from_ints([event[5] or 0 for event in events]),
    )


def test_tombstones_stand_under_the_keys_of_what_they_remove() -> None:
    records = Records(Topics(""), 2)
    target = Target("t1", WINDOW)
    state = JudgedState(1, (1, 0), ReadPositions(0, 0, 0), 90, TERMS)
    written = records.judgement(Judgement(target, state, ()), NOW)[0]
    gone = records.forgotten_state(target)
    assert (gone.key, gone.partition, gone.value) == (written.key, 2, None)
    run = records.aggregates(aggregate_columns([(SUBJECT, WINDOW, 1, 0, False, None)]), NOW)
    forgotten = records.forgotten_window(run.keys[0])
    assert (forgotten.topic, forgotten.key, forgotten.partition, forgotten.value) == (run.topic, run.keys[0], 2, None)
    assert (gone.headers, forgotten.headers) == ((), ())
