"""The shares of a batch, grouped and rolled up, against one event at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold_processor.columns.limbs import from_ints
from meterfold_processor.fold import calendar
from meterfold_processor.fold.grouping import Events, WindowRows, roll_up, share
from meterfold_schemas.periods import DAY, HOUR, KEPT, Period, period_start

BASE = 19_782 * DAY + 22 * HOUR  # 2024-02-29T22:00Z
TIMES = st.sampled_from([0, 1, HOUR, HOUR + 1, 2 * HOUR, 3 * HOUR, DAY, 2 * DAY, 31 * DAY, -90 * DAY, -BASE - 1])
QUANTITIES = st.integers(-5, 5) | st.integers(-(10**29) + 1, 10**29 - 1)


@dataclass
class Event:
    slot: int
    time: int
    quantity: int


EVENTS = st.lists(st.builds(Event, st.integers(0, 2), TIMES.map(lambda t: BASE + t), QUANTITIES), min_size=1)


def columns(events: list[Event]) -> Events:
    return Events(
        slot=np.array([event.slot for event in events]),
        time=np.array([event.time for event in events]),
        offset=np.arange(len(events)) * 2 + 100,
        quantity=from_ints([event.quantity for event in events]),
    )


def naive(period: Period, events: list[Event]) -> dict[tuple[int, int], tuple[int, ...]]:
    groups: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
    for number, event in enumerate(events):
        key = (event.slot, period_start(period, event.time))
        groups.setdefault(key, []).append((event.time, number * 2 + 100, event.quantity))
    answer = {}
    for key, rows in groups.items():
        amounts = [quantity for _, _, quantity in rows]
        last_time, last_offset, last = max(rows)
        through = max(offset for _, offset, _ in rows)
        answer[key] = (len(rows), sum(amounts), min(amounts), max(amounts), last, last_time, last_offset, through)
    return answer


def readable(period: Period, shares: WindowRows) -> dict[tuple[int, int], tuple[int, ...]]:
    keys = list(zip(shares.slot.tolist(), calendar.starts(period, shares.ordinal).tolist(), strict=True))
    assert keys == sorted(set(keys)), "one row per window, sorted"
    decimals = [column.to_ints() for column in (shares.sum, shares.min, shares.max, shares.last)]
    columns = [shares.count.tolist(), *decimals]
    columns += [shares.last_time.tolist(), shares.last_offset.tolist(), shares.through.tolist()]
    return dict(zip(keys, zip(*columns, strict=True), strict=True))


@given(EVENTS)
def test_each_period_by_itself(events: list[Event]) -> None:
    ordered = columns(events).in_order()
    for period in KEPT:
        assert readable(period, share(period, ordered)) == naive(period, events)


@given(EVENTS)
def test_rolled_up_is_the_same_as_grouped(events: list[Event]) -> None:
    finer_period = Period.HOURLY
    shares = share(finer_period, columns(events).in_order())
    for period in (Period.DAILY, Period.MONTHLY, Period.LIFETIME):
        shares = roll_up(period, shares, finer_period)
        finer_period = period
        assert readable(period, shares) == naive(period, events)


@given(EVENTS, st.sampled_from([1, 2**40]))
def test_order_with_and_without_one_integer_key(events: list[Event], spread: int) -> None:
    """Beyond 63 bits of slot and time the events are sorted by two columns."""
    for event in events:
        event.slot *= spread
    ordered = columns(events).in_order()
    rows = list(zip(ordered.slot.tolist(), ordered.time.tolist(), ordered.offset.tolist(), strict=True))
    assert rows == sorted(rows)
    assert sorted(ordered.quantity.to_ints()) == sorted(event.quantity for event in events)


def test_a_tie_in_time_goes_to_the_larger_offset() -> None:
    shares = share(
        Period.HOURLY, columns([Event(0, BASE + 1, 7), Event(0, BASE + 1, -3), Event(0, BASE, 9)]).in_order()
    )
    assert shares.last.to_ints() == [-3]
    assert shares.last_offset.tolist() == [102]
    assert shares.through.tolist() == [104]


@pytest.mark.parametrize("period", KEPT)
def test_one_event(period: Period) -> None:
    shares = share(period, columns([Event(3, BASE, -1)]).in_order())
    assert len(shares) == 1
    assert readable(period, shares) == naive(period, [Event(3, BASE, -1)])
