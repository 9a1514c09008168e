"""The rules of a usage event, once as a value and once on the producers' fast path."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold_schemas import framing
from meterfold_schemas.errors import InvalidUsage, Poison
from meterfold_schemas.example_events import examples
from meterfold_schemas.keys import subject_key
from meterfold_schemas.periods import micros
from meterfold_schemas.quantities import MAX_UNSCALED, to_decimal
from meterfold_schemas.usage import UsageRecorded
from meterfold_schemas.usage_encoder import UsageEncoder
from meterfold_schemas.usage_fields import OPTIONAL

NOW = datetime(2026, 11, 22, 9, 30, 0, 123_456, tzinfo=UTC)
LONG = "é" * 256  # 512 bytes
GOOD = {
    "id": "e-1",
    "metric_key": "api.calls",
    "subject_type": "user",
    "subject_id": "u-17",
    "quantity": 1,
    "timestamp": NOW,
}
ENCODER = UsageEncoder()


def as_value(event: dict[str, Any]) -> bytes:
    return UsageRecorded.of(event).to_bytes()


def as_fast(event: dict[str, Any]) -> bytes:
    subject = ENCODER.subject(event.get("org_id", ""), event["metric_key"], event["subject_type"], event["subject_id"])
    return ENCODER.value(event["id"], subject, event["quantity"], micros(event["timestamp"]), *map(event.get, OPTIONAL))


PATHS = pytest.mark.parametrize("write", [as_value, as_fast])

SHORT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=128)
SOME = SHORT.filter(bool)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | SHORT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SHORT, inner, max_size=3),
    max_leaves=8,
)
EVENTS = st.fixed_dictionaries(
    {
        "id": SOME,
        "metric_key": st.from_regex(r"[a-z0-9_.-]{1,200}", fullmatch=True, alphabet=st.characters(codec="ascii")),
        "subject_type": SOME,
        "subject_id": SOME,
        "quantity": st.integers(-(10**20) + 1, 10**20 - 1)
        | st.integers(-MAX_UNSCALED, MAX_UNSCALED).map(to_decimal)
        | st.integers(-(10**9), 10**9).map(lambda whole: whole / 4),
        "timestamp": st.datetimes(timezones=st.just(UTC)),
    },
    optional={
        "org_id": SHORT,
        "source": SHORT,
        "resource_type": SHORT,
        "resource_id": SHORT,
        "metadata": st.dictionaries(SHORT, JSON, max_size=4),
    },
)


@given(EVENTS)
def test_the_fast_path_writes_the_bytes_of_the_value(event: dict[str, Any]) -> None:
    written = as_value(event)
    assert as_fast(event) == written
    assert ENCODER.event_id_of(written) == event["id"]


@given(EVENTS)
def test_an_event_survives(event: dict[str, Any]) -> None:
    made = UsageRecorded.of(event)
    assert UsageRecorded.from_bytes(made.to_bytes()) == made
    assert made.timestamp == event["timestamp"]
    assert made.quantity == Decimal(
        repr(event["quantity"]) if isinstance(event["quantity"], float) else event["quantity"]
    )
    assert made.key == subject_key(made.org_id, made.metric_key, made.subject_type, made.subject_id)


def test_a_small_memory_forgets_and_stays_right() -> None:
    small = UsageEncoder(remembered=2)
    for turn in range(3):
        for number in range(5):
            event = {**GOOD, "subject_id": f"u-{number}", "quantity": number, "source": f"s-{turn}-{number}"}
            subject = small.subject("", "api.calls", "user", event["subject_id"])
            stamp = micros(NOW) + turn * 2**40 + number * 2**29
            written = small.value("e", subject, number, stamp, event["source"], None, None, None)
            record = framing.decode(written)[1]
            assert (record["subject_id"], record["quantity"]) == (f"u-{number}", number * 10**9)
            assert (record["source"], record["timestamp"]) == (event["source"], stamp)


@PATHS
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": ""}, "id must not be empty"),
        ({"id": LONG + "x"}, "id .* 513 bytes"),
        ({"id": "a\0b"}, "id .* NUL"),
        ({"id": "\ud800"}, "id .* Unicode"),
        ({"id": 7}, "id must be text"),
        ({"id": b"x"}, "id must be text"),
        ({"org_id": LONG + "x"}, "org_id .* bytes"),
        ({"org_id": None}, "org_id must be text"),
        ({"metric_key": ""}, "metric_key"),
        ({"metric_key": "API.calls"}, "metric_key"),
        ({"metric_key": "a" * 201}, "metric_key"),
        ({"metric_key": "a\n"}, "metric_key"),
        ({"metric_key": "é"}, "metric_key"),
        ({"metric_key": 5}, "metric_key"),
        ({"subject_type": ""}, "subject_type must not be empty"),
        ({"subject_id": ""}, "subject_id must not be empty"),
        ({"subject_id": 17}, "subject_id must be text, not int 17"),
        ({"subject_id": ["a"]}, "subject_id must be text"),
        ({"subject_id": "x\0"}, "subject_id .* NUL"),
        ({"source": "\0"}, "source .* NUL"),
        ({"source": 5}, "source must be text"),
        ({"resource_type": LONG + "x"}, "resource_type .* bytes"),
        ({"resource_id": ["x"]}, "resource_id must be text"),
        ({"quantity": "abc"}, "quantity"),
        ({"quantity": float("nan")}, "quantity"),
        ({"quantity": Decimal("0.0000000001")}, "quantity"),
        ({"quantity": 10**20}, "quantity"),
        ({"quantity": None}, "quantity"),
        ({"quantity": True}, "quantity"),
        ({"timestamp": NOW.replace(tzinfo=None)}, "timezone"),
        ({"metadata": []}, "mapping"),
        ({"metadata": "[]"}, "JSON object"),
        ({"metadata": "{"}, "not JSON"),
        ({"metadata": '{"a":NaN}'}, "not JSON"),
        ({"metadata": '{"a":1e999}'}, "out of range"),
        ({"metadata": {"a": 10**400}}, "308 digits"),
        ({"metadata": {"a": float("inf")}}, "JSON"),
        ({"metadata": {"a": object()}}, "JSON"),
        ({"metadata": {1: 2}}, "keys must be text"),
        ({"metadata": {"a": "\0"}}, "NUL"),
        ({"metadata": {"a": "\ud800"}}, "Unicode"),
        ({"metadata": {"a": "x" * 16_384}}, "16384 are allowed"),
        ({"metadata": '{"a":' + "[" * 200 + "]" * 200 + "}"}, "deeper than 100"),
        ({"metadata": '{"a":' * 5000 + "1" + "}" * 5000}, "deeper|16384"),
    ],
)
def test_a_broken_rule_is_a_clear_error(write: Callable[[dict[str, Any]], bytes], change: Any, reason: str) -> None:
    with pytest.raises(InvalidUsage, match=reason) as caught:
        write({**GOOD, **change})
    assert caught.value.code == "INVALID_USAGE"
    assert len(str(caught.value)) < 400


@PATHS
@pytest.mark.parametrize(
    "change",
    [
        {"id": LONG},
        {"org_id": ""},
        {"source": ""},
        {"metric_key": "a" * 200},
        {"metadata": {}},
        {"metadata": {"a": "\\u0000 is not a NUL"}},
        {"metadata": {"a": "[" * 500 + "{" * 500}},
        {"metadata": {"a": "1" * 400}},
        {"metadata": '{ "kept" : "as it is" }'},
        {"metadata": {"a": "x" * (16_384 - 8)}},
        {"metadata": {"a": [[[[]]]] * 30}},
    ],
)
def test_the_edge_of_a_rule_is_allowed(write: Callable[[dict[str, Any]], bytes], change: dict[str, Any]) -> None:
    record = framing.decode(write({**GOOD, **change}))[1]
    for name, value in change.items():
        assert record[name] == value or json.loads(record[name]) == value


def test_metadata_nests_a_hundred_deep() -> None:
    deepest = '{"a":' * 100 + "1" + "}" * 100
    assert UsageRecorded.of({**GOOD, "metadata": deepest}).metadata == deepest
    with pytest.raises(InvalidUsage, match="deeper"):
        UsageRecorded.of({**GOOD, "metadata": '{"a":' + deepest + "}"})


EDGE = datetime(9999, 12, 31, 23, tzinfo=timezone(-timedelta(hours=12)))


@pytest.mark.parametrize("change", [{"quantty": 1}, {"timestamp": 5}, {"timestamp": EDGE}])
def test_unknown_names_and_types_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidUsage):
        UsageRecorded.of({**GOOD, **change})


def test_a_missing_name_is_named() -> None:
    with pytest.raises(InvalidUsage, match="subject_id"):
        UsageRecorded.of({name: value for name, value in GOOD.items() if name != "subject_id"})


def test_every_example_is_a_valid_event() -> None:
    for example in examples("usage_recorded"):
        data = framing.encode("usage_recorded", example.record)
        event = UsageRecorded.from_bytes(data)
        assert event.to_bytes() == data
        assert as_fast({name: getattr(event, name) for name in UsageRecorded.__slots__}) == data


def test_bytes_that_break_a_rule_are_invalid_and_damaged_ones_undecodable() -> None:
    record = next(examples("usage_recorded")).record
    with pytest.raises(Poison) as caught:
        UsageRecorded.from_bytes(framing.encode("usage_recorded", {**record, "subject_id": ""}))
    assert caught.value.reason == "invalid"
    with pytest.raises(Poison) as caught:
        UsageRecorded.from_bytes(framing.encode("usage_recorded", {**record, "timestamp": 2**62}))
    assert caught.value.reason == "invalid"
    with pytest.raises(Poison) as caught:
        UsageRecorded.from_bytes(framing.encode("usage_recorded", record)[:-1])
    assert caught.value.reason == "undecodable"
    other = next(examples("threshold_state"))
    with pytest.raises(Poison, match="threshold_state, not a usage_recorded"):
        UsageRecorded.from_bytes(framing.encode("threshold_state", other.record))
