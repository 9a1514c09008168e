"""Avro messages to columns: sound ones exactly, damaged ones alone."""

from __future__ import annotations

import random
from dataclasses import fields, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from meterfold_processor.fold import decode as decode_module
from meterfold_processor.fold import validate
from meterfold_processor.fold.decode import FIELDS, Decoded, decode
from meterfold_processor.fold.messages import Consumed
from meterfold_processor.fold.schemas import Schemas, always_read
from meterfold_schemas import catalog
from meterfold_schemas.errors import Poison
from meterfold_schemas.quantities import MAX_UNSCALED, to_decimal
from meterfold_schemas.usage import UsageRecorded

HEADER = catalog.latest("usage_recorded").header
UNKNOWN = b"\xc3\x01" + b"\x01\x02\x03\x04\x05\x06\x07\x08"
HAMBA = b"\xc3\x01" + bytes.fromhex("f69a6eec52c0f203")
READS_HAMBA = Schemas({**always_read(), HAMBA[2:]: catalog.latest("usage_recorded")})
REGISTERED = b"\0" + (7).to_bytes(4, "big")
READS_ID = Schemas({**always_read(), REGISTERED[1:]: catalog.latest("usage_recorded")}, confluent=True)
OTHER = catalog.latest("usage_aggregated").header
CORRUPTIONS = 1000


def event(name: str = "a", **changes: Any) -> UsageRecorded:
    values: dict[str, Any] = {
        "id": name,
        "org_id": "org",
        "metric_key": "api.calls",
        "subject_type": "user",
        "subject_id": "é1",
        "quantity": Decimal("-1.5"),
        "source": "web",
        "resource_id": "r",
        "metadata": '{"a":1}',
        "timestamp": datetime(2026, 2, 28, 23, 59, 59, 999_999, tzinfo=UTC),
    }
    return UsageRecorded(**{**values, **changes})


def consumed(values: list[bytes], partitions: list[int] | None = None) -> Consumed:
    size = len(values)
    where = np.array(partitions or [0] * size, dtype=np.int64)
    return Consumed(where, np.arange(size) + 10, np.arange(size) * 1000, [b"k"] * size, values)


def read(*values: bytes) -> list[dict[str, Any]]:
    return decode(consumed(list(values))).frame.rows(named=True)


def assert_is(row: dict[str, Any], expected: UsageRecorded) -> None:
    assert row["reason"] is None
    for field in fields(UsageRecorded):
        assert row[field.name] == getattr(expected, field.name), field.name


TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30)
EVENTS = st.builds(
    event,
    TEXT,
    org_id=TEXT | st.just(""),
    subject_type=TEXT,
    subject_id=TEXT,
    quantity=st.integers(-MAX_UNSCALED, MAX_UNSCALED).map(to_decimal) | st.integers(-(10**6), 10**6),
    source=st.none() | TEXT | st.just(""),
    resource_type=st.none() | TEXT,
    resource_id=st.none() | TEXT,
    metadata=st.none() | st.dictionaries(TEXT, TEXT, max_size=3),
    timestamp=st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)),  # noqa: DTZ001
)


@hypothesis_settings(max_examples=200)
@given(st.lists(EVENTS, min_size=1, max_size=8))
def test_sound_messages_are_what_fastavro_reads(events: list[UsageRecorded]) -> None:
    values = [one.to_bytes() for one in events]
    for row, one, value in zip(read(*values), events, values, strict=True):
        assert_is(row, one)
        assert UsageRecorded.from_bytes(value) == one


def test_one_row_per_message_in_order_with_its_position() -> None:
    values = [event("a").to_bytes(), b"", event("b").to_bytes(), UNKNOWN[:5], event("c").to_bytes()]
    frame = decode(consumed(values, [3, 1, 3, 1, 1])).frame
    assert frame["row"].to_list() == [0, 1, 2, 3, 4]
    assert frame["partition"].to_list() == [3, 1, 3, 1, 1]
    assert frame["offset"].to_list() == [10, 11, 12, 13, 14]
    assert frame["stamp"].to_list() == [0, 1000, 2000, 3000, 4000]
    assert frame["key"].to_list() == [b"k"] * 5
    assert frame["id"].to_list() == ["a", None, "b", None, "c"]
    assert frame["reason"].to_list() == [None, "undecodable", None, "undecodable", None]
    assert {name: frame.schema[name] for name in FIELDS} == FIELDS


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        (b"", "0 bytes where a header has 10"),
        (HEADER[:9], "9 bytes where a header has 10"),
        (b'{"id": "half of an event"}', "metric_key is missing"),
        (b'["json"]   ', "do not begin with c3 01; publish Avro in single-object encoding, or JSON that begins with {"),
        (b"\x00\x00\x00\x00\x01" + HEADER, "which this installation does not read: set url under [schema_registry]"),
        (HEADER, "not one usage_recorded record"),
        (event().to_bytes()[:-1], "not one usage_recorded record"),
        (event().to_bytes() + b"\0", "not one usage_recorded record"),
        (event().to_bytes() * 2, "not one usage_recorded record"),
        (event().to_bytes() + bytes(16) + event("forged").to_bytes(), "not one usage_recorded record"),
        (OTHER + b"\0" * 20, "a usage_aggregated event"),
    ],
)
def test_undecodable_between_two_neighbours(value: bytes, detail: str) -> None:
    before, bad, after = read(event("a").to_bytes(), value, event("b").to_bytes())
    assert_is(before, event("a"))
    assert_is(after, event("b"))
    assert bad["reason"] == "undecodable"
    assert detail in bad["detail"]
    assert [bad[name] for name in FIELDS] == [None] * len(FIELDS)


def damaged(rng: random.Random, value: bytes) -> bytes:
    """Behind the header: a bit, a byte, the end, or some bytes more or less."""
    data = bytearray(value)
    at = rng.randrange(len(HEADER), len(data))
    match rng.randrange(6):
        case 0:
            data[at] ^= 1 << rng.randrange(8)
        case 1:
            data[at] = rng.randrange(256)
        case 2:
            del data[at:]
        case 3:
            data[at:at] = rng.randbytes(rng.randrange(1, 20))
        case 4:
            del data[at : at + rng.randrange(1, 10)]
        case 5:
            data[at:at] = value[rng.randrange(len(data)) :]
    return bytes(data)


def test_corruptions_never_reach_a_neighbour() -> None:
    """And what is left readable is read as fastavro reads it, but for union branches (see below)."""
    rng = random.Random(2026)
    sound, counts = event("sound"), {"undecodable": 0, "readable": 0}
    for _ in range(CORRUPTIONS):
        bad = damaged(rng, sound.to_bytes())
        decoded = decode(consumed([event("a").to_bytes(), bad, event("b").to_bytes()]))
        before, row, after = decoded.frame.rows(named=True)
        assert_is(before, event("a"))
        assert_is(after, event("b"))
        if row["reason"] is None:
            counts["readable"] += 1
            check_against_fastavro(decoded, row, bad)
        else:
            counts["undecodable"] += 1
            assert not readable_by_fastavro(bad)
    assert min(counts.values()) > CORRUPTIONS / 10, counts


def check_against_fastavro(decoded: Decoded, row: dict[str, Any], value: bytes) -> None:
    poison = poison_of(value)
    if poison is None:
        assert_is(row, UsageRecorded.from_bytes(value))
    foreign_branch = poison is not None and ("IndexError" in poison.detail or "bytes after" in poison.detail)
    if not foreign_branch:
        invalid = validate.invalid(decoded.frame)[1] is not None
        assert invalid == (poison is not None), (value, poison)


def poison_of(value: bytes) -> Poison | None:
    try:
        UsageRecorded.from_bytes(value)
    except Poison as poison:
        return poison
    return None


def readable_by_fastavro(value: bytes) -> bool:
    poison = poison_of(value)
    if poison is None:
        return True
    # fastavro makes a date out of range of an integer of too many bytes.
    return poison.reason == "invalid" and "out of range" not in poison.detail


@pytest.mark.parametrize("branch", [b"\x03", b"\x04", b"\x22"])
def test_a_union_branch_that_does_not_exist_reads_as_the_text(branch: bytes) -> None:
    """polars takes every branch but the first for the second: what the message says is still clear."""
    sound = event("a", source="web").to_bytes()
    foreign = sound.replace(b"\x02\x06web", branch + b"\x06web")
    assert foreign != sound
    (row,) = read(foreign)
    assert_is(row, event("a"))


def test_what_is_decided_does_not_depend_on_neighbours() -> None:
    rng = random.Random(7)
    values = [damaged(rng, event(str(n)).to_bytes()) if n % 3 == 0 else event(str(n)).to_bytes() for n in range(40)]
    together = [{**row, "row": 0, "offset": 0, "stamp": 0} for row in read(*values)]
    alone = [{**read(value)[0], "row": 0, "offset": 0, "stamp": 0} for value in values]
    assert together == alone


def with_quantity(raw: bytes) -> bytes:
    """An event whose decimal stands in these bytes."""
    value = event("a", quantity=1).to_bytes()
    one = b"\x08" + (10**9).to_bytes(4, "big")
    assert value.count(one) == 1
    return value.replace(one, bytes([2 * len(raw)]) + raw)


@pytest.mark.parametrize(
    "unscaled", [0, 1, -1, 127, 128, -128, -129, MAX_UNSCALED, -MAX_UNSCALED, 10**38 - 1, -(10**38) + 1]
)
@pytest.mark.parametrize("padding", [0, 3])
def test_decimals(unscaled: int, padding: int) -> None:
    size = min(16, (unscaled.bit_length() + 8) // 8 + padding)
    (row,) = read(with_quantity(unscaled.to_bytes(size, "big", signed=True)))
    assert row["quantity"] == to_decimal(unscaled)


def test_empty_bytes_are_zero() -> None:
    (row,) = read(with_quantity(b""))
    assert row["quantity"] == 0


@pytest.mark.parametrize("unscaled", [10**29, -(10**29), 10**38, -(10**38), 2**127 - 1, -(2**127)])
def test_decimals_beyond_an_event_or_beyond_38_digits_are_invalid(unscaled: int) -> None:
    raw = with_quantity(unscaled.to_bytes(16, "big", signed=True))
    frame = decode(consumed([event("b").to_bytes(), raw])).frame
    nothing, detail = validate.invalid(frame)
    assert nothing is None
    assert detail.endswith("has more than 20 integer digits; record it in parts or in a larger unit")


@pytest.mark.parametrize("raw", [bytes(17), b"\xff" * 17, b"\x01" + bytes(30)])
def test_decimals_of_more_than_16_bytes_are_undecodable(raw: bytes) -> None:
    assert read(with_quantity(raw))[0]["reason"] == "undecodable"


@pytest.mark.parametrize("raw", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf5\x80\x80\x80"])
def test_text_that_is_no_utf8_is_undecodable(raw: bytes) -> None:
    value = event("a", source="x" * len(raw)).to_bytes().replace(b"x" * len(raw), raw)
    before, bad = read(event("b").to_bytes(), value)
    assert_is(before, event("b"))
    assert bad["reason"] == "undecodable"


def test_an_unknown_fingerprint_holds_its_partition() -> None:
    unknown = UNKNOWN + b"\0" * 30
    values = [event("a").to_bytes(), event("b").to_bytes(), unknown, event("c").to_bytes(), unknown, b"x"]
    decoded = decode(consumed(values, [0, 1, 0, 1, 0, 0]))
    assert decoded.frame["id"].to_list() == ["a", "b", "c"]
    assert [(hold.partition, hold.offset, hold.fingerprint) for hold in decoded.holds] == [(0, 12, UNKNOWN[2:])]


def test_each_partition_is_held_at_its_first_unknown() -> None:
    one, other = UNKNOWN + b"\0", b"\xc3\x01" + b"\x09" * 8
    decoded = decode(consumed([one, other, other, one], [0, 1, 0, 1]))
    assert decoded.frame.is_empty()
    assert sorted((hold.partition, hold.offset, hold.fingerprint) for hold in decoded.holds) == [
        (0, 10, UNKNOWN[2:]),
        (1, 11, b"\x09" * 8),
    ]


def test_a_fingerprint_that_is_poison_is_rejected() -> None:
    poison = Schemas(poison=frozenset({UNKNOWN[2:]}))
    decoded = decode(consumed([event("a").to_bytes(), UNKNOWN + b"\0", event("b").to_bytes()]), poison)
    assert decoded.holds == []
    assert decoded.frame["reason"].to_list() == [None, "undecodable", None]
    assert "0102030405060708 is poison" in decoded.frame["detail"][1]


def test_an_alias_is_read_only_once_it_is_decided() -> None:
    """What this version knows decides nothing: another one may have rejected the same messages."""
    theirs = HAMBA + event("b").to_bytes()[10:]
    values = [event("a").to_bytes(), theirs, event("c").to_bytes()]
    (hold,) = decode(consumed(values)).holds
    assert (hold.offset, hold.fingerprint) == (11, HAMBA[2:])
    decoded = decode(consumed(values), READS_HAMBA)
    assert decoded.holds == []
    for row, name in zip(decoded.frame.rows(named=True), "abc", strict=True):
        assert_is(row, event(name))
    poison = decode(consumed(values), Schemas(poison=frozenset({HAMBA[2:]})))
    assert poison.frame["reason"].to_list() == [None, "undecodable", None]


def test_messages_of_an_alias_alone_and_damaged_ones_among_them() -> None:
    theirs = [HAMBA + event(str(number)).to_bytes()[10:] for number in range(200)]
    assert decode(consumed(theirs), READS_HAMBA).frame["id"].to_list() == [str(number) for number in range(200)]
    theirs[7], theirs[99] = theirs[7][:-1], theirs[99] + theirs[100][10:]
    theirs[150] = event("150").to_bytes()
    frame = decode(consumed(theirs), READS_HAMBA).frame
    assert [row for row, reason in enumerate(frame["reason"]) if reason] == [7, 99]
    assert frame["id"].to_list() == [None if number in (7, 99) else str(number) for number in range(200)]


def test_a_registry_id_is_read_only_by_an_installation_that_reads_them_and_once_it_is_decided() -> None:
    ours = event("a").to_bytes()
    theirs = REGISTERED + event("b").to_bytes()[10:]
    for rejects in (Schemas(), replace(READS_ID, confluent=False)):
        decoded = decode(consumed([ours, theirs, theirs[:3]]), rejects)
        assert decoded.holds == []
        assert decoded.frame["reason"].to_list() == [None, "undecodable", "undecodable"]
        assert "set url under [schema_registry] and decoder_version 3" in decoded.frame["detail"][1]
        assert "3 bytes where a header has 10" in decoded.frame["detail"][2]
    undecided = decode(consumed([ours, theirs, ours]), Schemas(confluent=True))
    assert [(hold.offset, hold.fingerprint) for hold in undecided.holds] == [(11, REGISTERED[1:])]
    assert undecided.frame["id"].to_list() == ["a"]
    decoded = decode(consumed([ours, theirs, theirs[:3], theirs]), READS_ID)
    assert decoded.holds == []
    assert decoded.frame["id"].to_list() == ["a", "b", None, "b"]
    assert "3 bytes where a header has 5" in decoded.frame["detail"][2]
    poison = Schemas(poison=frozenset({REGISTERED[1:]}), confluent=True)
    rejected = decode(consumed([ours, theirs]), poison).frame
    assert rejected["reason"].to_list() == [None, "undecodable"]
    assert "registry schema id:7 is poison" in rejected["detail"][1]


def test_the_first_undecided_message_holds_a_partition_whichever_header_it_has() -> None:
    for values in ([UNKNOWN + b"x", REGISTERED + b"x"], [REGISTERED + b"x", UNKNOWN + b"x"]):
        (hold,) = decode(consumed([event("a").to_bytes(), *values]), Schemas(confluent=True)).holds
        assert (hold.offset, hold.fingerprint) == (11, UNKNOWN[2:] if values[0].startswith(UNKNOWN) else REGISTERED[1:])


@given(st.lists(EVENTS, min_size=1, max_size=12), st.randoms(use_true_random=False))
@hypothesis_settings(max_examples=60, deadline=None)
def test_a_registry_id_and_a_fingerprint_say_the_same(events: list[UsageRecorded], chance: random.Random) -> None:
    ours = [made.to_bytes() for made in events]
    theirs = [REGISTERED + value[10:] if chance.random() < 0.5 else value for value in ours]
    alone = [REGISTERED + value[10:] for value in ours]
    expected = decode(consumed(ours)).frame
    for values in (theirs, alone):
        assert decode(consumed(values), READS_ID).frame.equals(expected)


def test_damage_among_messages_with_a_registry_id_stays_alone() -> None:
    values = [REGISTERED + event(str(number)).to_bytes()[10:] for number in range(200)]
    values[7], values[99] = values[7][:-1], values[99] + values[100][5:]
    values[150] = REGISTERED + event("a").to_bytes()[10:] + bytes(16) + REGISTERED + event("forged").to_bytes()[10:]
    frame = decode(consumed(values), READS_ID).frame
    assert [row for row, reason in enumerate(frame["reason"]) if reason] == [7, 99, 150]
    assert frame["id"].to_list() == [None if number in (7, 99, 150) else str(number) for number in range(200)]


def test_a_message_cannot_end_in_another_one_by_changing_headers() -> None:
    """A forged record with the other header behind a body must not stand for a message."""
    forged = HAMBA + event("a").to_bytes()[10:] + bytes(16) + event("forged").to_bytes()
    before, bad, after = decode(consumed([event("x").to_bytes(), forged, event("y").to_bytes()]), READS_HAMBA).frame[
        "id"
    ]
    assert (before, bad, after) == ("x", None, "y")


def test_text_instead_of_avro_is_rejected_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A producer of JSON must not hold a worker up: every one of its messages begins with other bytes."""
    parts = []
    real = decode_module._with_position
    monkeypatch.setattr(decode_module, "_with_position", lambda *args: parts.append(args) or real(*args))
    values = [f'{{"{number:07d}": 1}}'.encode() for number in range(3000)]
    values[1500] = event("a").to_bytes()
    frame = decode(consumed(values)).frame
    assert frame["reason"].null_count() == 1
    assert frame["id"][1500] == "a"
    assert len(parts) == 2


def test_no_message() -> None:
    decoded = decode(consumed([]))
    assert decoded.frame.is_empty()
    assert decoded.holds == []


def test_large_batch() -> None:
    events = [event(str(number), quantity=number) for number in range(5000)]
    frame = decode(consumed([one.to_bytes() for one in events])).frame
    assert frame["id"].to_list() == [one.id for one in events]
    assert frame["quantity"].sum() == sum(range(5000))
