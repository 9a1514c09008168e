"""What grows with the number of subjects: panes, the queue of aggregates, sweeps. Each against a naive model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold_processor.checker.aggregates import Aggregates
from meterfold_processor.checker.definitions import Definitions
from meterfold_processor.checker.hashing import hashes_of_subjects
from meterfold_processor.checker.pace import Pace, Rate
from meterfold_processor.checker.panes import Pane, Panes, SubjectHashes
from meterfold_processor.checker.rows import WindowColumns, rows_of
from meterfold_processor.checker.rules import CODES, WindowRules
from meterfold_processor.checker.settings import CheckerSettings, MetricPatterns
from meterfold_processor.checker.sweeps import Purpose, Sweeps
from meterfold_processor.checker.waiting import Room
from meterfold_processor.columns.tables import WINDOWS
from meterfold_schemas.periods import DAY, HOUR, Period
from meterfold_schemas.quantities import to_decimal

DAILY = CODES[Period.DAILY]
RULES = WindowRules(open_for=4 * DAY, grace=HOUR)


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3), st.booleans()), min_size=1, max_size=200), st.booleans()
)
def test_a_pane_gives_each_subject_one_row(asked: list[tuple[int, int, bool]], colliding: bool) -> None:
    """In batches of any size; with hashes of which many have one home, and many keys differ in the second hash only."""
    pane = Pane(DAILY, 0, aggregated=True)
    naive: dict[tuple[int, int], int] = {}
    for size in (1, 2, 3, 7, len(asked)):
        batch, asked = asked[:size], asked[size:]
        wanted = {one[:2]: one[2] for one in batch}
        batch = [(subject, part, wanted[subject, part]) for subject, part, _ in batch]
        key = np.array([(subject % 3 if colliding else subject) << 40 for subject, _, _ in batch], np.uint64)
        check = np.array([subject * 4 + part for subject, part, _ in batch], np.uint32)
        create = np.array([one[2] for one in batch], np.bool_)
        rows = pane.locate(SubjectHashes(key, check), create)
        made = {one[:2] for one in batch if one[2]}
        for row, (subject, part, _) in zip(rows.tolist(), batch, strict=True):
            if (subject, part) in naive:
                assert row == naive[subject, part]
            elif (subject, part) in made:
                assert row not in naive.values()
                naive[subject, part] = row
            else:
                assert row == -1
    assert pane.size == len(naive)
    assert sorted(naive.values()) == list(range(len(naive)))
    for name, column in pane.columns.items():
        assert len(column) >= pane.size
        assert set(column[: pane.size].tolist()) <= {0 if name in ("total", "flags") else -1}


def test_a_window_that_never_crossed_takes_60_bytes_at_most() -> None:
    """One that is judged and aggregated as well, at any number of them."""
    pane = Pane(DAILY, 0, aggregated=True)
    random = np.random.default_rng(7)
    for _ in range(60):
        key = random.integers(0, 2**63, 10_000).astype(np.uint64) * np.uint64(2)
        check = random.integers(0, 2**32, 10_000).astype(np.uint32)
        pane.locate(SubjectHashes(key, check), np.ones(10_000, np.bool_))
        if pane.size >= 100_000:
            assert pane.memory / pane.size < 60
    assert pane.size == 600_000


def window_rows(windows: list[tuple[str, int, int]], day: int = 0) -> WindowColumns:
    """Daily windows of (subject_id, sum, folded_through)."""
    count = len(windows)
    amounts = [to_decimal(total) for _, total, _ in windows]
    columns: dict[str, object] = {
        "org_id": ["acme"] * count,
        "metric_key": ["api.calls"] * count,
        "subject_type": ["user"] * count,
        "subject_id": [name for name, _, _ in windows],
        "period_type": [DAILY] * count,
        "period_start": [day * DAY] * count,
        "partition": [0] * count,
        "record_count": [1] * count,
        **dict.fromkeys(("sum", "min", "max", "last"), amounts),
        "last_timestamp": [0] * count,
        "last_offset": [1] * count,
        "folded_through": [through for _, _, through in windows],
    }
    return rows_of(pa.Table.from_pydict(columns, schema=WINDOWS))


def aggregates(room: int = 1000, interval: float = 10.0) -> Aggregates:
    panes = Panes(frozenset({DAILY}))
    made = Aggregates(Definitions(), panes, RULES, frozenset({Period.DAILY}), lambda key: True, interval, Room(room))
    made.restored = True
    return made


STEPS = st.lists(
    st.tuples(
        st.lists(st.tuples(st.integers(0, 5), st.integers(-(2**70), 2**70)), max_size=6),
        st.integers(1, 4),
        st.sampled_from([0.0, 1.0, 4.0, 10.0]),
    ),
    max_size=25,
)


@given(STEPS, st.sampled_from([1, 3, 1000]))
def test_each_change_is_emitted_once_within_its_interval(
    steps: list[tuple[list[tuple[int, int]], int, float]], room: int
) -> None:
    """Whatever waits: the newest values, revisions that rise, the previous total, at most once per interval; and all of
    it in the end, with a sweep over the stored windows where there was no room."""
    found = aggregates(room)
    stored: dict[str, tuple[int, int]] = {}
    emitted: dict[str, tuple[int, int, float]] = {}
    now, through = 0.0, 0

    def emit(most: int) -> int:
        events = found.due(now, 0, most)
        if events is None:
            return 0
        assert len(events) <= most
        for at, name in enumerate(events.names["subject_id"].tolist()):
            total, revision = events.total.to_ints()[at], int(events.revision[at])
            assert (total, revision) == stored[name]
            before = emitted.get(name)
            assert bool(events.has_previous[at]) == (before is not None)
            if before is not None:
                assert revision > before[1]
                assert events.previous.to_ints()[at] == before[0]
                assert now - before[2] >= 10.0
            emitted[name] = total, revision, now
        return len(events)

    for changes, most, pause in steps:
        rows = []
        for number, total in changes:
            through += 1
            stored[f"u{number}"] = total, through
            rows.append((f"u{number}", total, through))
        if rows:
            found.take(window_rows(rows), 0)
        emit(most)
        now += pause
    for _ in range(2 * 6 * 2):
        now += 10.0
        if found.missed:
            found.missed = False
            found.take(window_rows([(name, *values) for name, values in stored.items()]), 0)
        while emit(2):
            pass
    assert {name: emitted[name][:2] for name in emitted} == stored
    assert found.waiting == 0


def test_a_busy_window_keeps_its_turn() -> None:
    """A window that changes with every step is emitted as soon as those that came before it."""
    found = aggregates()
    names = [f"u{number}" for number in range(10)]
    found.take(window_rows([(name, 1, at) for at, name in enumerate(names)]), 0)
    seen: list[str] = []
    for step in range(10):
        found.take(window_rows([("u3", step, 100 + step)]), 0)
        events = found.due(0.0, 0, 1)
        assert events is not None
        seen += events.names["subject_id"].tolist()
    assert sorted(seen) == names
    assert seen.index("u3") == 3


def test_what_was_emitted_before_is_not_due() -> None:
    first = aggregates()
    first.take(window_rows([("u1", 5, 3), ("u2", 2**90, 4)]), 0)
    events = first.due(0.0, 0, 10)
    assert events is not None
    from meterfold_processor.checker.emitted import encoded, read_emitted

    written = read_emitted(encoded(events, "usage.aggregated", 0, "/test", 1).values)
    assert written is not None
    second = aggregates()
    # A piece may hold several events of one window, and an older one may come later.
    older = replace(written, revision=written.revision - 1)
    for part in (written, older):
        second.restore(part)
    second.take(window_rows([("u1", 5, 3), ("u2", 2**90, 4)]), 0)
    assert second.due(0.0, 0, 10) is None
    second.take(window_rows([("u2", 7, 5)]), 0)
    again = second.due(0.0, 0, 10)
    assert again is not None
    assert again.previous.to_ints() == [2**90]


def test_a_final_event_follows_once() -> None:
    found = aggregates()
    found.take(window_rows([("u1", 5, 3)]), 0)
    assert found.due(0.0, 0, 10) is not None
    over = DAY + HOUR
    (pane,) = found.newly_final(over)
    assert list(found.newly_final(over)) == []
    for _ in range(2):  # a sweep, and one more
        found.take(window_rows([("u1", 5, 3)]), over)
    events = found.due(20.0, over, 10)
    assert events is not None
    assert (events.is_final.tolist(), events.revision.tolist(), events.previous.to_ints()) == ([True], [3], [5])
    assert pane.end == DAY
    found.take(window_rows([("u1", 5, 3)]), over)
    assert found.due(40.0, over, 10) is None


def test_hashes_tell_the_parts_of_a_subject_apart() -> None:
    subjects = [("a", "b", "c", "d"), ("a", "b", "", "cd"), ("ab", "", "c", "d"), ("", "ab", "c", "d")]
    hashes = hashes_of_subjects(subjects)
    assert len(set(hashes.key.tolist())) == len(set(hashes.check.tolist())) == 4
    assert len(hashes_of_subjects([])) == 0


def test_changes_that_wait_are_one_sweep_and_what_runs_is_not_cut_off() -> None:
    sweeps = Sweeps()
    first, second = frozenset({("acme", "calls")}), frozenset({(None, "tokens")})
    sweeps.judge(first)
    running = sweeps.next(Purpose.JUDGE)
    assert running is not None
    running.begun = True
    for _ in range(3):
        sweeps.judge(first)
    sweeps.judge(second)
    assert sweeps.counted() == {"judge": 2, "emit": 0, "forget": 0}
    assert sweeps.next(*Purpose) is running
    sweeps.done(running)
    following = sweeps.next(Purpose.JUDGE)
    assert following is not None
    assert following.affected == first | second
    sweeps.judge(None)
    assert following.affected is None


def test_a_pace_follows_the_time_that_a_step_takes() -> None:
    pace = Pace(500, 10_000, 0.1)
    for _ in range(10):
        pace.took(0.01)
    assert pace.rows == 10_000
    pace.took(0.05)
    assert pace.rows == 10_000
    for _ in range(10):
        pace.took(1.0)
    assert pace.rows == 500
    assert Pace(500, 3, 0.1).rows == 3


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(0, 100)), max_size=50))
def test_a_rate_is_never_exceeded(steps: list[tuple[float, int]]) -> None:
    rate = Rate(50, 0.0)
    now, used = 0.0, 0
    for pause, wanted in steps:
        now += pause
        taken = min(wanted, rate.allowed(now))
        rate.used(taken)
        used += taken
        assert used <= 50 + 50 * now + 1e-6
    assert Rate(float("inf"), 0.0).allowed(0.0) > 10**9


@pytest.mark.parametrize(
    ("patterns", "wanted", "unwanted"),
    [
        ("*", ["api.calls"], []),
        ("", [], ["api.calls"]),
        ("api.*", ["api.calls"], ["tokens", "xapi.calls"]),
        ("!debug.*", ["api.calls"], ["debug.x"]),
        ("api.*, !api.debug", ["api.calls"], ["api.debug", "tokens"]),
        ("!api.*, api.calls", ["api.calls"], ["api.debug", "tokens"]),
    ],
)
def test_patterns_choose_metrics(patterns: str, wanted: list[str], unwanted: list[str]) -> None:
    chosen = MetricPatterns(CheckerSettings(aggregated_metrics=patterns).aggregated_metrics)  # type: ignore[arg-type]
    assert [key for key in wanted + unwanted if chosen.wants(key)] == wanted
