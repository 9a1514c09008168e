"""The rules of an event, column by column, and their agreement with what the SDK lets through."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from meterfold_processor.fold import validate
from meterfold_processor.fold.decode import FIELDS
from meterfold_schemas.errors import InvalidUsage
from meterfold_schemas.periods import MICROS_PER_SECOND
from meterfold_schemas.usage import UsageRecorded
from meterfold_schemas.usage_rules import age_problem

GOOD: dict[str, Any] = {
    "id": "i",
    "org_id": "o",
    "metric_key": "api.calls",
    "subject_type": "user",
    "subject_id": "s",
    "quantity": Decimal(1),
    "source": None,
    "resource_type": None,
    "resource_id": None,
    "metadata": None,
    "timestamp": datetime(2026, 1, 1, tzinfo=UTC),
}
TEXTS = ["id", "org_id", "metric_key", "subject_type", "subject_id", "source", "resource_type", "resource_id"]
REQUIRED = ["id", "metric_key", "subject_type", "subject_id"]


def details(*events: dict[str, Any]) -> list[str | None]:
    return validate.invalid(pl.DataFrame([{**GOOD, **event} for event in events], schema=FIELDS)).to_list()


def allowed_by_the_sdk(event: dict[str, Any]) -> bool:
    try:
        UsageRecorded(**{**GOOD, **event})
    except InvalidUsage:
        return False
    return True


def assert_agreement(event: dict[str, Any], detail: str | None = None) -> None:
    """Both refuse it, with this detail in the fold; or, without one, both let it through."""
    (found,) = details(event)
    assert found == detail
    assert allowed_by_the_sdk(event) == (detail is None)


def test_a_good_event_and_its_neighbours() -> None:
    assert details({}, {"id": ""}, {}) == [None, "id must not be empty", None]


@pytest.mark.parametrize("name", TEXTS)
def test_lengths_of_texts(name: str) -> None:
    longest = 200 if name == "metric_key" else 512
    assert_agreement({name: "a" * longest})
    assert_agreement({name: "a" * 513}, f"{name} '{'a' * 80}...' has 513 bytes; at most 512 are allowed")
    if name != "metric_key":
        assert_agreement({name: "é" * 256})
        too_long = f"{name} '{'é' * 80}...' has 513 bytes; at most 512 are allowed"
        assert_agreement({name: "é" * 256 + "a"}, too_long)


@pytest.mark.parametrize("name", TEXTS)
def test_empty_texts(name: str) -> None:
    assert_agreement({name: ""}, f"{name} must not be empty" if name in REQUIRED else None)


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("text", ["\0", "a\0", "\0a"])
def test_nul(name: str, text: str) -> None:
    assert_agreement({name: text}, f"{name} '{text.replace(chr(0), '?')}' has a NUL character; remove it")


@pytest.mark.parametrize("key", ["a", "api.calls", "a-b_c.0", "0", ".", "a" * 200])
def test_metric_keys(key: str) -> None:
    assert_agreement({"metric_key": key})


@pytest.mark.parametrize("key", ["A", "a b", "é", "a/b", "a\n", "\na", "a" * 201, "٣", "a,b", "\u212a"])
def test_bad_metric_keys(key: str) -> None:
    shown = key[:80].replace("\n", "?")
    assert_agreement(
        {"metric_key": key}, f"metric_key '{shown}' is not 1 to 200 characters of a-z, 0-9, '_', '.' and '-'"
    )


LARGEST = Decimal("99999999999999999999.999999999")
SMALLEST = LARGEST.copy_negate()  # a minus sign would round to 28 digits
BILLIONTH = Decimal("0.000000001")


@pytest.mark.parametrize("quantity", [Decimal(0), LARGEST, SMALLEST, BILLIONTH, -BILLIONTH, Decimal("-0.5")])
def test_quantities(quantity: Decimal) -> None:
    assert_agreement({"quantity": quantity})


@pytest.mark.parametrize("quantity", [Decimal(10) ** 20, -(Decimal(10) ** 20), Decimal(10) ** 28])
def test_quantities_of_too_many_digits(quantity: Decimal) -> None:
    assert_agreement(
        {"quantity": quantity},
        f"quantity {quantity:.9f} has more than 20 integer digits; record it in parts or in a larger unit",
    )


METADATA = [
    "{}",
    '{"a":1}',
    " \t\r\n{} ",
    '{"a":{"b":[1,"x",null,true,-1.5e3]}}',
    '{"a":"\\\\u0000"}',
    '{"a":"\\ud83d\\ude00"}',
    '{"a":"\x7f"}',
    '{"":1}',
    '{"$":1}',
    '{"a":1,"a":2}',
    '{"a":1e308}',
    '{"a":1e-999}',
    '{"a":0e999}',
    '{"a":18446744073709551616}',
    '{"a":"' + "1" * 400 + '"}',
    '{"a":' * 100 + "1" + "}" * 100,
    '{"a":"' + "x" * (16 * 1024 - 8) + '"}',
]
NO_OBJECT = [
    "",
    " ",
    "{",
    "[]",
    '"a"',
    "1",
    "null",
    '{"a":}',
    '{"a":1,}',
    "{a:1}",
    "{'a':1}",
    '{"a":NaN}',
    '{"a":Infinity}',
    '{"a":1e999}',
    '{"a":01}',
    '{"a":.5}',
    '{"a":"\x01"}',
    '{"a":"\\x"}',
    "{}x",
    "{}{}",
    "\ufeff{}",
    "\u00a0{}",
    '{"a":"\0"}',
    '{"a":' + "9" * 310 + "}",
    '{"a":' * 140 + "1" + "}" * 140,
]


@pytest.mark.parametrize("metadata", METADATA)
def test_metadata(metadata: str) -> None:
    assert_agreement({"metadata": metadata})


@pytest.mark.parametrize("metadata", NO_OBJECT)
def test_metadata_that_is_no_object(metadata: str) -> None:
    shown = metadata[:80].translate(dict.fromkeys((*range(32), 127), "?"))
    assert_agreement({"metadata": metadata}, f"metadata '{shown}' is not a JSON object")


@pytest.mark.parametrize("metadata", ['{"a":"\\u0000"}', '{"\\u0000":1}', '{"a":"\\\\\\u0000"}', '{"a":"\\n\\u0000"}'])
def test_metadata_with_an_escaped_nul(metadata: str) -> None:
    assert_agreement({"metadata": metadata}, "metadata has a NUL character (\\u0000); remove it")


def test_metadata_over_16_kib() -> None:
    assert_agreement(
        {"metadata": '{"a":"' + "x" * (16 * 1024 - 7) + '"}'}, "metadata has 16385 bytes; at most 16384 are allowed"
    )


@pytest.mark.parametrize(
    "metadata",
    [
        '{"a":' * 101 + "1" + "}" * 101,
        '{"a":' + "1" * 309 + "}",
    ],
)
def test_metadata_that_only_the_sdk_refuses(metadata: str) -> None:
    """The fold counts a foreign producer's event rather than lose it for what harms nobody behind it."""
    assert details({"metadata": metadata}) == [None]
    assert not allowed_by_the_sdk({"metadata": metadata})


def test_metadata_with_an_escaped_lone_surrogate() -> None:
    event = {"metadata": '{"a":"\\ud800"}'}
    assert (details(event) == [None]) == allowed_by_the_sdk(event)


TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@hypothesis_settings(max_examples=200)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(["id", "org_id", "subject_type", "subject_id"], TEXT),
            "metric_key": st.from_regex(r"[a-z0-9_.-]{1,20}", fullmatch=True) | TEXT,
            **dict.fromkeys(["source", "resource_type", "resource_id"], st.none() | TEXT),
            "quantity": st.decimals(-(10**27), 10**27, places=9),
            "metadata": st.none() | TEXT,
        },
    )
)
def test_agreement_on_anything(event: dict[str, Any]) -> None:
    assert (details(event) == [None]) == allowed_by_the_sdk(event)


@given(st.dictionaries(TEXT, JSON, max_size=4))
def test_agreement_on_metadata(metadata: dict[str, Any]) -> None:
    try:
        text = UsageRecorded(**{**GOOD, "metadata": metadata}).metadata
    except InvalidUsage:
        return
    assert details({"metadata": text}) == [None]


HORIZON, TOLERANCE = 1000, 300


@pytest.mark.parametrize("stamp", [0, 10**15])
@pytest.mark.parametrize(
    ("age", "reason"), [(HORIZON, None), (HORIZON + 1, "too_old"), (-TOLERANCE, None), (-TOLERANCE - 1, "in_future")]
)
def test_too_old_and_in_the_future(stamp: int, age: int, reason: str | None) -> None:
    event = pl.DataFrame({"time": [stamp - age], "stamp": [stamp]})
    timely = event.select(validate.timely(pl.col("time"), pl.col("stamp"), HORIZON, TOLERANCE)).item()
    assert timely == (reason is None)
    if reason is not None:
        assert validate.untimely(event, HORIZON, TOLERANCE)["reason"].to_list() == [reason]


def test_details_of_untimely_events_name_both_times() -> None:
    second = MICROS_PER_SECOND
    events = pl.DataFrame({"time": [0, 90 * second], "stamp": [100 * second, 0]})
    verdict = validate.untimely(events, 60 * second, 5 * second)
    assert verdict.rows() == [
        (
            "too_old",
            "timestamp 1970-01-01T00:00:00Z is too old: the oldest that counts is 1970-01-01T00:00:40Z, 1 minute (the "
            "horizon) before the event arrives. Leave the event out, or raise the stored horizon_seconds first "
            "(docs/operations.md, 'Changing stored settings')",
        ),
        (
            "in_future",
            "timestamp 1970-01-01T00:01:30Z is in the future: the latest that counts is 1970-01-01T00:00:05Z, 5 "
            "seconds (the future tolerance) after the event arrives. Check the clock that made the timestamp, its "
            "time zone and its unit",
        ),
    ]


@given(st.integers(-(2**62), 2**62), st.integers(0, 2**52), st.integers(0, 2**50), st.integers(0, 2**50))
def test_the_sdk_and_the_fold_agree_about_times(time: int, stamp: int, horizon: int, tolerance: int) -> None:
    for near in (time, stamp - horizon, stamp - horizon - 1, stamp + tolerance, stamp + tolerance + 1):
        event = pl.DataFrame({"time": [near], "stamp": [stamp]})
        timely = event.select(validate.timely(pl.col("time"), pl.col("stamp"), horizon, tolerance)).item()
        assert timely == (age_problem(near, stamp, horizon, tolerance) is None)


@pytest.mark.parametrize(("time", "reason"), [(-(2**63), "too_old"), (2**63 - 1, "in_future")])
def test_extreme_times(time: int, reason: str) -> None:
    event = pl.DataFrame(
        {"time": [time], "stamp": [1_700_000_000_000_000]}, schema={"time": pl.Int64, "stamp": pl.Int64}
    )
    assert not event.select(validate.timely(pl.col("time"), pl.col("stamp"), HORIZON, TOLERANCE)).item()
    verdict = validate.untimely(event, HORIZON, TOLERANCE)
    assert verdict["reason"].to_list() == [reason]
    assert f"timestamp {time} (microseconds since 1970) is" in verdict["detail"][0]
