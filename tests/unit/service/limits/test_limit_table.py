"""Limits in memory: what a subject has reached, and that nothing of what is over stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from meterfold_schemas.events import ThresholdState
from meterfold_schemas.periods import Period
from meterfold_schemas.vocabulary import Action, Level
from meterfold_service.limits.operations import SubjectLimits
from meterfold_service.limits.table import LimitTable

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
ADA = ("acme", "user", "ada")


def state(threshold_id: str = "t", level: Level = Level.EXCEEDED, **more: Any) -> ThresholdState:
    values: dict[str, Any] = {
        "threshold_id": threshold_id,
        "name": "quota",
        "org_id": "acme",
        "metric_key": "calls",
        "subject_type": "user",
        "subject_id": "ada",
        "period_type": Period.DAILY,
        "period_start": NOW.replace(hour=0),
        "period_end": NOW.replace(hour=0) + timedelta(days=1),
        "level": level,
        "action": Action.BLOCK,
        "crossing_approaching": 1,
        "crossing_exceeded": 1,
        "folded_through": 1,
        "metric_position": 1,
        "threshold_position": 1,
        "value": Decimal(11),
        "threshold": Decimal(10),
        "warn_threshold": Decimal(8),
        "occurred_at": NOW,
    }
    return ThresholdState(**{**values, **more})


def applied(table: LimitTable, *states: ThresholdState) -> LimitTable:
    for one in states:
        table.apply(one.key, one, NOW)
    return table


def test_what_is_reached_is_found_by_subject_and_what_blocks_comes_first() -> None:
    near, warns, blocks = (
        state("near", Level.APPROACHING),
        state("warns", action=Action.WARN),
        state("blocks"),
    )
    table = applied(LimitTable(), near, warns, blocks, state("other", subject_id="bob"), state("none", Level.NONE))
    found = table.of(ADA, NOW)
    assert [one.threshold_id for one in found] == ["blocks", "warns", "near"]
    assert [one.blocks for one in found] == [True, False, False]
    assert table.of(("other", "user", "ada"), NOW) == ()


def test_a_level_that_falls_a_tombstone_and_an_ended_window_are_forgotten() -> None:
    table = applied(LimitTable(), state("a"), state("b"), state("c"))
    applied(table, state("a", Level.NONE))
    table.apply(state("b").key, None, NOW)
    table.apply(b"unknown", None, NOW)
    assert [one.threshold_id for one in table.of(ADA, NOW)] == ["c"]
    tomorrow = NOW + timedelta(days=1)
    assert table.of(ADA, tomorrow) == ()
    assert len(table) == 1
    table.sweep(tomorrow)  # begins
    table.sweep(tomorrow)
    assert len(table) == 0
    assert table.of(ADA, NOW) == ()


def test_a_lifetime_never_ends() -> None:
    lifetime = state(period_type=Period.LIFETIME, period_start=datetime(1970, 1, 1, tzinfo=UTC), period_end=None)
    table = applied(LimitTable(), lifetime)
    later = NOW + timedelta(days=10_000)
    assert len(table.of(ADA, later)) == 1


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from([*Level, None]), st.integers(min_value=-1, max_value=1)),
        max_size=30,
    )
)
def test_the_last_message_of_each_key_decides(messages: list[tuple[str, Level | None, int]]) -> None:
    table, last = LimitTable(), dict[bytes, ThresholdState | None]()
    for name, level, days in messages:
        one = state(name, level or Level.NONE, period_end=NOW + timedelta(days=days))
        last[one.key] = None if level is None else one
        table.apply(one.key, last[one.key], NOW)
    expected = {
        one.threshold_id
        for one in last.values()
        if one is not None and one.level is not Level.NONE and one.period_end is not None and one.period_end > NOW
    }
    assert {one.threshold_id for one in table.of(ADA, NOW)} == expected
    assert len(table) == len(expected)


def test_until_when_a_subject_is_blocked() -> None:
    def limits(*states: ThresholdState) -> SubjectLimits:
        return SubjectLimits(*ADA, NOW, applied(LimitTable(), *states).of(ADA, NOW))

    assert (limits().blocked, limits().blocked_until) == (False, None)
    later = NOW + timedelta(days=40)
    both = limits(state("a"), state("b", period_end=later), state("near", Level.APPROACHING))
    assert (both.blocked, both.blocked_until) == (True, later)
    assert limits(state("a"), state("b", period_type=Period.LIFETIME, period_end=None)).blocked_until is None
