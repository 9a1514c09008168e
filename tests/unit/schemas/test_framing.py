"""Framing: strict when writing, and damage is always told apart from a record."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold_schemas import catalog, framing
from meterfold_schemas.errors import InvalidEvent, Poison, UnknownSchema
from meterfold_schemas.example_events import examples
from meterfold_schemas.quantities import MAX_STORED
from support.seeds import seed_of

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
OPTION = st.none() | TEXT
USAGE = st.fixed_dictionaries(
    {
        "id": TEXT,
        "org_id": TEXT,
        "metric_key": TEXT,
        "subject_type": TEXT,
        "subject_id": TEXT,
        "quantity": st.integers(-MAX_STORED, MAX_STORED),
        "source": OPTION,
        "resource_type": OPTION,
        "resource_id": OPTION,
        "metadata": OPTION,
        "timestamp": st.integers(-(2**63), 2**63 - 1),
    }
)


def usage(**changes: Any) -> dict[str, Any]:
    return {**next(examples("usage_recorded")).record, **changes}


@given(USAGE)
def test_a_record_survives(record: dict[str, Any]) -> None:
    data = framing.encode("usage_recorded", record)
    assert data[:2] == b"\xc3\x01"
    assert framing.decode(data) == (catalog.latest("usage_recorded"), record)


@pytest.mark.parametrize(
    "changes",
    [
        {"unknown": 1},
        {"quantity": None},
        {"quantity": 1.5},
        {"quantity": "1"},
        {"quantity": True},
        {"quantity": MAX_STORED + 1},
        {"timestamp": 2**63},
        {"timestamp": "now"},
        {"timestamp": True},
        {"id": None},
        {"id": 7},
        {"id": b"x"},
        {"id": "\ud800"},
        {"source": 7},
    ],
)
def test_writing_is_strict(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidEvent):
        framing.encode("usage_recorded", usage(**changes))


def test_a_missing_field_is_named() -> None:
    record = usage()
    del record["metadata"]
    with pytest.raises(InvalidEvent, match="metadata"):
        framing.encode("usage_recorded", record)


@pytest.mark.parametrize(
    "data", [b"", b"\xc3", b"\xc3\x01", b"\xc3\x01abcdefg", b'{"id":"a"}' * 3, b"\xc3\x02" + bytes(20)]
)
def test_a_value_without_the_header_is_undecodable(data: bytes) -> None:
    with pytest.raises(Poison) as caught:
        framing.decode(data)
    assert caught.value.reason == "undecodable"


def test_an_unknown_fingerprint_is_held_not_rejected() -> None:
    with pytest.raises(UnknownSchema) as caught:
        framing.decode(b"\xc3\x01" + b"12345678" + b"body")
    assert caught.value.fingerprint == b"12345678"
    assert not isinstance(caught.value, Poison)


def test_two_records_in_one_message_are_poison() -> None:
    data = framing.encode("usage_recorded", usage())
    with pytest.raises(Poison, match="after the record"):
        framing.decode(data + data[framing.HEADER_SIZE :])


def test_a_decimal_beyond_38_digits_is_poison() -> None:
    data = bytearray(framing.encode("usage_recorded", usage(quantity=MAX_STORED)))
    at = data.index(MAX_STORED.to_bytes(16, "big"))
    data[at : at + 16] = (MAX_STORED + 1).to_bytes(16, "big")
    with pytest.raises(Poison, match="38 digits"):
        framing.decode(bytes(data))


def test_an_empty_decimal_is_zero_as_other_readers_take_it() -> None:
    data = framing.encode("usage_recorded", usage(quantity=0, id="a"))
    at = data.index(b"\x02\x00", framing.HEADER_SIZE + 2)  # one byte: 00
    assert framing.decode(data[:at] + b"\x00" + data[at + 2 :])[1]["quantity"] == 0


def test_damage_never_raises_anything_but_poison() -> None:
    chance = random.Random(seed_of("damaged values"))
    newest = [example for example in examples() if example.schema is catalog.latest(example.schema.name)]
    values = [framing.encode(example.schema.name, example.record) for example in newest]
    reasons = set()
    readable = 0
    for _ in range(20_000):
        data = bytearray(chance.choice(values))
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(framing.HEADER_SIZE, len(data))
            match chance.randrange(4):
                case 0:
                    data[at] = chance.randrange(256)
                case 1:
                    del data[at : at + chance.randint(1, 8)]
                case 2:
                    data[at:at] = chance.randbytes(chance.randint(1, 12))
                case 3:
                    data[at] = 0xFF
            if len(data) <= framing.HEADER_SIZE:
                break
        try:
            schema, record = framing.decode(bytes(data))
        except Poison as poison:
            reasons.add(poison.reason)
        else:
            readable += 1
            assert record.keys() == schema.fields.keys()
    assert reasons == {"undecodable"}
    assert 0 < readable < 20_000
