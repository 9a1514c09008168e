"""Whose a rejected message is, and what is said about keys and partitions that are wrong."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold_processor.fold.rejected import misrouted_details, with_subject
from meterfold_processor.fold.subjects import SUBJECT
from meterfold_processor.kafka.murmur import partitions_of
from meterfold_schemas.keys import parse_subject_key, partition_of, subject_key

Parts = tuple[str | None, ...]
ANN = ("acme", "api.calls", "user", "ann")
KEY = subject_key(*ANN)
PARTITIONS = 5
HERE = partition_of(KEY, PARTITIONS)
NOBODY: Parts = (None, None, None, None)
TEXT = st.sampled_from(['"', "\\", "a\nb", "\x1f", "\u2028", "é", '","', "", "\x00"]) | st.text(
    alphabet=st.characters(exclude_categories=["Cs"]), max_size=12
)


def frame(*rows: tuple[bytes | None, Parts], partition: int = HERE) -> pl.DataFrame:
    schema = {"key": pl.Binary, **dict.fromkeys(SUBJECT, pl.String)}
    made = pl.DataFrame([(key, *parts) for key, parts in rows], schema=schema, orient="row")
    return made.with_columns(partition=pl.lit(partition), offset=pl.int_range(pl.len()))


def detail(key: bytes | None, parts: Parts = ANN, partition: int = HERE) -> str:
    (found,) = misrouted_details(frame((key, parts), partition=partition), PARTITIONS).to_list()
    assert isinstance(found, str)
    return found


def subjects(*rows: tuple[bytes | None, Parts]) -> list[tuple[str, ...]]:
    return with_subject(frame(*rows)).select(SUBJECT).rows()


def test_a_right_key_on_a_wrong_partition_names_both_partitions_and_the_partitioner() -> None:
    assert detail(KEY, partition=HERE + 1) == (
        f"the key {KEY.decode()} is right, the partition is not: expected partition {HERE} (murmur2 of the key), found "
        f"on partition {HERE + 1}. In librdkafka clients set partitioner=murmur2_random; elsewhere use Kafka's default "
        "partitioner"
    )


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        (b'["acme", "api.calls", "user", "ann"]', '["acme", "api.calls", "user", "ann"]'),  # Python's json.dumps
        (b'["acme","api.calls","user","\\u0061nn"]', '["acme","api.calls","user","\\u0061nn"]'),
        (b"", '""'),
        (b"\xff\x00", "ff00"),
        (b"x" * 5000, "x" * 200),
    ],
)
def test_a_wrong_key_is_shown_beside_the_expected_one(key: bytes, shown: str) -> None:
    assert detail(key).startswith(
        f"the key {shown} is not the event's subject key; expected {KEY.decode()}, which belongs to partition {HERE}; "
        f"the message is on partition {HERE}. A key is a JSON array without spaces"
    )


@pytest.mark.parametrize(
    ("subject_id", "key"),
    [
        ("<b>", rb'["acme","api.calls","user","\u003cb\u003e"]'),  # Go's json.Marshal
        ("\x1f", rb'["acme","api.calls","user","\u001F"]'),  # Jackson
        ("\u2028", rb'["acme","api.calls","user","\u2028"]'),
    ],
)
def test_escapes_of_other_json_writers(subject_id: str, key: bytes) -> None:
    parts = (*ANN[:3], subject_id)
    expected = subject_key(*parts).decode()
    assert f"the key {key.decode()} is not the event's subject key; expected {expected}, which" in detail(key, parts)


def test_a_message_without_a_key() -> None:
    assert detail(None).startswith(
        f"the message has no key; expected {KEY.decode()}, which belongs to partition {HERE}"
    )


def test_the_subject_comes_from_the_event_else_from_the_key_else_it_is_empty() -> None:
    escaped = ("a\\", "api.calls", "user", 'q"\n')
    nobody = ("", "", "", "")
    assert subjects(
        (b"something else", ANN),
        (KEY, NOBODY),
        (subject_key(*escaped), NOBODY),
        (None, NOBODY),
        (b"", NOBODY),
        (b"\xff", NOBODY),
        (b'["acme", "api.calls", "user", "ann"]', NOBODY),
        (b'["acme","api.calls","user"]', NOBODY),
        (b'["\\ud800","m","t","s"]', NOBODY),
        (KEY + b"\n", NOBODY),
    ) == [ANN, ANN, escaped, *[nobody] * 7]


def test_parts_over_512_bytes_stay_empty() -> None:
    long = "é" * 257
    assert subjects((None, ("acme", "m", "user", long)), (subject_key("acme", "m", "user", long), NOBODY)) == [
        ("acme", "m", "user", ""),
        ("acme", "m", "user", ""),
    ]
    assert subjects((None, ("acme", "m", "user", "é" * 256))) == [("acme", "m", "user", "é" * 256)]


@given(st.lists(st.tuples(TEXT, TEXT, TEXT, TEXT), min_size=1, max_size=5))
def test_any_subject_key_is_read_as_the_schemas_read_it(parts: list[tuple[str, str, str, str]]) -> None:
    keys = [subject_key(*part) for part in parts]
    assert subjects(*((key, NOBODY) for key in keys)) == [parse_subject_key(key) for key in keys]


def test_expected_partitions_are_kafkas() -> None:
    keys = [subject_key("", "m", "user", f"u{number}") for number in range(50)]
    assert partitions_of(pl.Series(keys, dtype=pl.Binary), PARTITIONS).tolist() == [
        partition_of(key, PARTITIONS) for key in keys
    ]
