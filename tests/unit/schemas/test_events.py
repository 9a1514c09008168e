"""The derived events: they survive the wire, and their ids are a function of what they stand for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from meterfold_schemas import cloudevents, framing, ids
from meterfold_schemas.errors import InvalidEvent, Poison
from meterfold_schemas.events import ThresholdEvent, ThresholdState, UsageAggregated
from meterfold_schemas.example_events import Example, examples
from meterfold_schemas.periods import micros
from meterfold_schemas.quantities import MAX_STORED, to_decimal
from meterfold_schemas.totals import percentage_used
from meterfold_schemas.vocabulary import Level

MODELS: dict[str, Any] = {
    "usage_aggregated": UsageAggregated,
    "threshold_approaching": ThresholdEvent,
    "threshold_exceeded": ThresholdEvent,
    "threshold_cleared": ThresholdEvent,
    "threshold_state": ThresholdState,
}
DERIVED = [example for name in MODELS for example in examples(name)]


def read(example: Example) -> Any:
    return MODELS[example.schema.name].from_bytes(framing.encode(example.schema.name, example.record))


def first(name: str) -> Any:
    return read(next(examples(name)))


@pytest.mark.parametrize("example", DERIVED, ids=lambda e: f"{e.schema.name}.{e.case}")
def test_an_example_is_read_and_written_again(example: Example) -> None:
    event = read(example)
    assert event.to_bytes() == framing.encode(example.schema.name, example.record)
    for name in ("event_id", "alert_id"):
        if name in example.record:
            assert getattr(event, name) == example.record[name]


def test_times_are_aware_and_numbers_decimals() -> None:
    event = first("usage_aggregated")
    assert event.period_start.tzinfo is UTC
    assert isinstance(event.sum, Decimal)


def test_an_aggregate_is_identified_by_window_revision_and_finality() -> None:
    event = first("usage_aggregated")
    same = replace(event, occurred_at=datetime(2027, 1, 1, tzinfo=UTC), sum=Decimal(0), partition=5)
    others = [
        replace(event, revision=event.revision + 1),
        replace(event, is_final=not event.is_final),
        replace(event, period_start=datetime(2026, 10, 1, tzinfo=UTC)),
        replace(event, subject_id="someone else"),
    ]
    assert same.event_id == event.event_id
    assert len({event.event_id, *(other.event_id for other in others)}) == 5
    assert {event.key, same.key, others[0].key, others[1].key} == {event.key}
    assert event.key == (
        f'["{event.org_id}","{event.metric_key}","{event.subject_type}","{event.subject_id}",'
        f'"{event.period_type}",{micros(event.period_start)}]'.encode()
    )


def test_an_alert_is_identified_by_threshold_subject_window_level_and_crossing() -> None:
    event = first("threshold_exceeded")
    cleared = replace(event, event_type="threshold.cleared", actual_value=Decimal(0))
    assert cleared.alert_id == event.alert_id
    assert cleared.event_id != event.event_id
    others = [
        replace(event, crossing=event.crossing + 1),
        replace(event, threshold_id="another"),
        replace(event, event_type="threshold.approaching", level=Level.APPROACHING),
    ]
    assert len({event.alert_id, *(other.alert_id for other in others)}) == 4


def test_ids_never_change() -> None:
    """Receivers keep them: these were written by the first version."""
    window = ("acme", "api.calls", "user", "u-17", "monthly", 1_793_491_200_000_000)
    alert = ids.alert_id("th-1", *window, "exceeded", 1)
    assert alert == "ed7dbaf5-1575-5223-a990-d9ae7d33c37a"
    assert ids.alert_event_id(alert, "threshold.exceeded") == "01bc7b24-931d-504b-9d1f-3c399a4514e2"
    assert ids.aggregated_event_id(*window, 41, False) == "a480abcf-041a-56c2-830b-f1c7bf7366d7"
    assert ids.definition_event_id("metric.defined", "m-1", 0) == "442843eb-ff0f-5197-b214-9983e9d47628"
    assert ids.state_key("th-1", *window) == b'["th-1","acme","api.calls","user","u-17","monthly",1793491200000000]'


def test_a_level_fits_its_event() -> None:
    event = first("threshold_exceeded")
    with pytest.raises(InvalidEvent, match="level"):
        replace(event, level=Level.APPROACHING)
    with pytest.raises(InvalidEvent, match="level"):
        replace(event, event_type="threshold.cleared", level=Level.NONE)
    with pytest.raises(InvalidEvent, match="must be one of"):
        replace(event, event_type="threshold.reached")


def test_a_value_that_does_not_fit_is_refused_not_rounded() -> None:
    with pytest.raises(InvalidEvent, match=r"usage_aggregated\.sum"):
        replace(first("usage_aggregated"), sum=Decimal(1) / Decimal(3)).to_bytes()
    with pytest.raises(InvalidEvent, match=r"usage_aggregated\.sum"):
        replace(first("usage_aggregated"), sum=Decimal("1e29")).to_bytes()


def test_a_word_that_nobody_knows_is_invalid() -> None:
    record = next(examples("threshold_state")).record
    with pytest.raises(Poison) as caught:
        ThresholdState.from_bytes(framing.encode("threshold_state", {**record, "level": "melting"}))
    assert caught.value.reason == "invalid"


@pytest.mark.parametrize(
    ("value", "threshold", "expected"),
    [
        ("1042", "1000", "104.2"),
        ("1", "3", "33.333333333"),
        ("2", "3", "66.666666667"),
        ("-5", "10", "-50"),
        ("0", "10", "0"),
    ],
)
def test_percentages(value: str, threshold: str, expected: str) -> None:
    assert percentage_used(Decimal(value), Decimal(threshold)) == Decimal(expected)


def test_a_percentage_out_of_range_is_clamped() -> None:
    limit = to_decimal(MAX_STORED)
    assert percentage_used(limit, Decimal("1e-9")) == limit
    # Not -limit: that would round to the 28 digits of the context.
    assert percentage_used(limit.copy_negate(), Decimal("1e-9")) == limit.copy_negate()
    replace(first("threshold_exceeded"), percentage_used=percentage_used(limit, Decimal("1e-9"))).to_bytes()


def test_cloudevents_headers() -> None:
    headers = dict(
        cloudevents.headers(
            "threshold.exceeded",
            "id-1",
            "/meterfold",
            datetime(2026, 11, 22, 9, 30, tzinfo=UTC),
            "user:Zo\u00eb\n%\x85",
        )
    )
    assert headers == {
        "ce_specversion": b"1.0",
        "ce_type": b"threshold.exceeded",
        "ce_id": b"id-1",
        "ce_source": b"/meterfold",
        "ce_subject": "user:Zo\u00eb%0A%%C2%85".encode(),
        "ce_time": b"2026-11-22T09:30:00.000000Z",
        "content-type": b"application/avro",
    }
    assert headers.keys() == cloudevents.ATTRIBUTES.keys()
