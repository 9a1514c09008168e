"""What can be read of a rejected message, and the event that a correction makes of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold_schemas import catalog, framing
from meterfold_schemas.errors import InvalidUsage
from meterfold_schemas.periods import micros
from meterfold_schemas.usage import UsageRecorded
from meterfold_schemas.usage_fields import SCHEMA
from meterfold_service.rejected.corrections import AS_RECEIVED, Correction, corrected, too_early_or_late
from meterfold_service.rejected.decoding import DecodedEvent, decoded_event, schema_labelled
from meterfold_sink.rules import FoldRules

AT = datetime(2026, 11, 22, 10, tzinfo=UTC)
ARRIVED = AT + timedelta(minutes=3)
EVENT = UsageRecorded(
    id="e1", org_id="acme", metric_key="api.calls", subject_type="user", subject_id="ada", quantity=Decimal("1.5"),
    timestamp=AT, source="host",
)  # fmt: skip
RULES = FoldRules(cluster_id="c", topic_id="t", partition_count=6)


def as_json(**changes: Any) -> bytes:
    fields = {
        "id": "e1", "org_id": "acme", "metric_key": "api.calls", "subject_type": "user", "subject_id": "ada",
        "quantity": "1.5", "timestamp": AT.isoformat(), "source": "host",
    }  # fmt: skip
    return json.dumps({name: value for name, value in {**fields, **changes}.items() if value is not ...}).encode()


@pytest.mark.parametrize("value", [EVENT.to_bytes(), as_json()])
def test_a_whole_event_needs_no_correction(value: bytes) -> None:
    assert corrected(decoded_event(value), Correction(), ARRIVED) == EVENT


def test_fields_that_break_a_rule_are_shown_and_replaced() -> None:
    record = {**_raw(EVENT), "id": "", "metric_key": "Api Calls"}
    decoded = decoded_event(framing.encode(SCHEMA, record))
    assert (decoded.fields["id"], decoded.fields["metric_key"]) == ("", "Api Calls")
    with pytest.raises(InvalidUsage, match="id must not be empty"):
        corrected(decoded, Correction({"metric_key": "api.calls"}), ARRIVED)
    assert corrected(decoded, Correction({"metric_key": "api.calls", "id": "e1"}), ARRIVED) == EVENT


def test_a_time_that_no_calendar_has_is_a_problem_of_that_field_alone() -> None:
    decoded = decoded_event(framing.encode(SCHEMA, {**_raw(EVENT), "timestamp": 2**62}))
    assert decoded.problems.keys() == {"timestamp"}
    assert corrected(decoded, Correction({"timestamp": AT}), ARRIVED) == EVENT
    assert corrected(decoded, Correction({"timestamp": AS_RECEIVED}), ARRIVED).timestamp == ARRIVED


def test_json_keeps_the_fields_that_are_right() -> None:
    decoded = decoded_event(as_json(id=7, timestamp="yesterday", host="a"))
    assert decoded.problems.keys() == {"id", "timestamp", "host"}
    assert decoded.fields["subject_id"] == "ada"
    right = {"id": "e1", "timestamp": AT}
    with pytest.raises(InvalidUsage, match="host: unknown field"):
        corrected(decoded, Correction(right), ARRIVED)
    assert corrected(decoded, Correction(right, frozenset({"host"})), ARRIVED) == EVENT


def test_a_cloud_event_is_read_like_its_data() -> None:
    data = json.loads(as_json(id=..., timestamp=..., quantity=[]))
    whole = {"specversion": "1.0", "type": "other", "id": "e1", "time": AT.isoformat(), "source": "s", "data": data}
    decoded = decoded_event(json.dumps(whole).encode())
    assert decoded.problems.keys() == {"quantity"}
    assert corrected(decoded, Correction({"quantity": "1.5"}), ARRIVED) == EVENT


def test_bytes_that_are_no_event_need_every_required_field() -> None:
    decoded = decoded_event(b"\x00noise")
    assert decoded.format is None
    with pytest.raises(InvalidUsage, match="subject_id, quantity, timestamp cannot be read"):
        corrected(decoded, Correction({"id": "e", "metric_key": "m", "subject_type": "user"}), ARRIVED)
    given_all = {
        "id": "e", "metric_key": "m", "subject_type": "user", "subject_id": "ada", "quantity": 1, "timestamp": AT,
    }  # fmt: skip
    assert corrected(decoded, Correction(given_all), ARRIVED).org_id == ""


def test_the_bytes_after_a_foreign_header_are_read_as_the_schema_that_is_named() -> None:
    schema = schema_labelled("usage_recorded.v1")
    first = framing.encode(SCHEMA, _raw(EVENT)) if catalog.latest(SCHEMA) is schema else None
    if first is None:
        pytest.skip("the newest schema is not the first one")
    foreign = b"\xc3\x01" + b"\x11" * 8 + first[10:]
    assert decoded_event(foreign).problem == "the schema fingerprint 1111111111111111 is unknown"
    assert corrected(decoded_event(foreign, read_as=schema), Correction(), ARRIVED) == EVENT
    assert corrected(decoded_event(foreign, {b"\x11" * 8: schema}), Correction(), ARRIVED) == EVENT
    registered = b"\x00" + (42).to_bytes(4, "big") + first[10:]
    assert decoded_event(registered).format is None
    assert corrected(decoded_event(registered, {(42).to_bytes(4, "big"): schema}), Correction(), ARRIVED) == EVENT
    assert corrected(decoded_event(registered, read_as=schema), Correction(), ARRIVED) == EVENT
    with pytest.raises(InvalidUsage, match=r"known: usage_recorded\.v1"):
        schema_labelled("usage_recorded.v99")


def test_a_correction_says_one_thing_about_a_field() -> None:
    with pytest.raises(InvalidUsage, match="no field subject"):
        Correction({"subject": "ada"})
    with pytest.raises(InvalidUsage, match="not both"):
        Correction({"timestamp": AT}, shift=timedelta(hours=1))
    with pytest.raises(InvalidUsage, match="set and dropped"):
        Correction({"source": "a"}, frozenset({"source"}))
    assert corrected(decoded_event(EVENT.to_bytes()), Correction({"source": None}), ARRIVED).source is None
    moved = corrected(decoded_event(EVENT.to_bytes()), Correction(shift=timedelta(hours=-2)), ARRIVED)
    assert moved.timestamp == AT - timedelta(hours=2)
    with pytest.raises(InvalidUsage, match="cannot be shifted"):
        corrected(decoded_event(EVENT.to_bytes()), Correction(shift=timedelta(days=-900_000)), ARRIVED)


def test_an_event_that_would_be_rejected_by_its_time_is_named() -> None:
    assert too_early_or_late(EVENT, RULES, ARRIVED) is None
    assert "too old" in str(too_early_or_late(EVENT, RULES, AT + timedelta(days=36)))
    assert "in the future" in str(too_early_or_late(EVENT, RULES, AT - timedelta(minutes=6)))


@given(st.binary(max_size=200), st.integers(0, 11), st.binary(max_size=4))
def test_any_bytes_are_read_or_said_why_not(noise: bytes, cut: int, tail: bytes) -> None:
    for value in (noise, b"{" + noise, EVENT.to_bytes()[: -1 - cut] + tail, as_json()[: -1 - cut] + tail + b"}"):
        decoded = decoded_event(value)
        assert isinstance(decoded, DecodedEvent)
        assert (decoded.format is None) == (decoded.problem is not None)
        try:
            made = corrected(decoded, Correction(), ARRIVED)
        except InvalidUsage:
            continue
        # The same message and correction always make the same event.
        assert made == corrected(decoded_event(value), Correction(), ARRIVED)


def _raw(event: UsageRecorded) -> dict[str, Any]:
    names = ("id", "org_id", "metric_key", "subject_type", "subject_id", "source", "resource_type", "resource_id")
    return {
        **{name: getattr(event, name) for name in names},
        "metadata": None,
        "quantity": int(event.quantity * 10**9),
        "timestamp": micros(event.timestamp),
    }
