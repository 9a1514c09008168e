"""Events of usage.aggregated against each other and against the stored windows."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from meterfold_processor.verify.aggregates import Emissions, compare_window, without_window
from meterfold_processor.verify.timerange import TimeRange
from meterfold_schemas.events import UsageAggregated
from meterfold_schemas.periods import Period, micros

DAY = datetime(2026, 3, 4, tzinfo=UTC)


def event(revision: int, *, final: bool = False, total: int = 3) -> UsageAggregated:
    amounts = dict.fromkeys(("total_quantity", "sum", "min", "max", "last"), Decimal(total))
    return UsageAggregated(
        occurred_at=DAY,
        org_id="acme",
        metric_key="calls",
        subject_type="user",
        subject_id="u1",
        period_type=Period.DAILY,
        period_start=DAY,
        period_end=datetime(2026, 3, 5, tzinfo=UTC),
        partition=0,
        record_count=1,
        revision=revision,
        is_final=final,
        **amounts,
    )


def stored(through: int, total: int = 3) -> dict[str, Any]:
    subject = {"org_id": "acme", "metric_key": "calls", "subject_type": "user", "subject_id": "u1"}
    window = {"period_type": "daily", "period_start": micros(DAY), "record_count": 1, "folded_through": through}
    return {**subject, **window, **dict.fromkeys(("sum", "min", "max", "last"), Decimal(total))}


def emitted(
    *events: UsageAggregated | None, within: TimeRange | None = None
) -> tuple[Emissions, list[tuple[str, str]]]:
    emissions, found = Emissions("usage.aggregated", 0, within), []
    for offset, one in enumerate(events):
        value = None if one is None else one.to_bytes()
        found += [(f.expected, f.found) for f in emissions.take(event(0).key, value, offset)]
    return emissions, found


def compared(emissions: Emissions, *windows: dict[str, Any]) -> list[tuple[str, str]]:
    different = [finding for row in windows for finding in compare_window(emissions, row)]
    return [(f.expected, f.found) for f in (*different, *without_window(emissions))]


def test_revisions_that_rise_and_a_final_one_say_nothing() -> None:
    emissions, found = emitted(event(1), event(4), event(4, final=True), event(6, final=True))
    assert (found, emissions.events) == ([], 4)
    assert compared(emissions, stored(6)) == []


def test_an_event_twice_or_out_of_order_is_named() -> None:
    assert emitted(event(4), event(4))[1] == [("one that follows revision 4", "revision 4")]
    assert emitted(event(4), event(3))[1] == [("one that follows revision 4", "revision 3")]
    again = emitted(event(4, final=True), event(4, final=True))[1]
    assert again == [("one that follows revision 4, final", "revision 4, final")]
    assert emitted(event(4, final=True), event(5))[1] == [("one that follows revision 4, final", "revision 5")]


def test_a_window_that_was_forgotten_may_begin_again() -> None:
    emissions, found = emitted(event(4), None, event(4))
    assert found == []
    assert compared(emissions, stored(4)) == []
    assert compared(emitted(event(4), None)[0]) == []


def test_what_is_newer_than_what_was_emitted_is_no_difference() -> None:
    assert compared(emitted(event(4))[0], stored(5, total=9)) == []


def test_a_window_that_is_not_what_was_emitted_is_named() -> None:
    assert compared(emitted(event(4))[0], stored(3)) == [("at most 3", "4")]
    ((expected, found),) = compared(emitted(event(4))[0], stored(4, total=2))
    nine = "000000000"
    assert expected == "sum 2, min 2, max 2, last 2"
    assert found == f"sum 3.{nine}, min 3.{nine}, max 3.{nine}, last 3.{nine}"
    assert compared(emitted(event(4))[0]) == [("a stored window", "none")]


def test_what_is_no_event_or_under_another_key_is_named() -> None:
    emissions = Emissions("usage.aggregated", 0)
    (junk,) = emissions.take(b"k", b"junk", 7)
    assert (junk.offset, junk.expected) == (7, "a usage.aggregated event")
    (other,) = emissions.take(b"k", event(1).to_bytes(), 8)
    assert (other.what, other.found) == ("key of an event", "b'k'")


def test_windows_outside_of_a_range_are_left_out() -> None:
    before = TimeRange(datetime(2026, 3, 1, tzinfo=UTC), DAY)
    emissions, found = emitted(event(4), event(4), within=before)
    assert (emissions.newest, found) == ({}, [])
    assert len(emitted(event(4), event(4), within=replace(before, end=datetime(2026, 3, 5, tzinfo=UTC)))[1]) == 1
