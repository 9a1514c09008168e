"""Keys are one canonical form, and their partition is Kafka's."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold_schemas.errors import InvalidUsage
from meterfold_schemas.keys import (
    metric_definition_key,
    murmur2,
    parse_subject_key,
    partition_of,
    subject_key,
    threshold_event_key,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(TEXT, TEXT, TEXT, TEXT)
def test_a_key_gives_back_its_four_parts(org: str, metric: str, kind: str, name: str) -> None:
    key = subject_key(org, metric, kind, name)
    assert parse_subject_key(key) == (org, metric, kind, name)
    assert json.loads(key) == [org, metric, kind, name]


def test_escapes_are_those_of_rfc_8785() -> None:
    """Section 3.2.2.2: two-character escapes where JSON has one, lower-case \\u00xx, everything else as it is."""
    text = '"\\/\b\t\n\f\r\x01\x1f\x7f\u00e9\u2028\U0001f389'
    escaped = '\\"\\\\/\\b\\t\\n\\f\\r\\u0001\\u001f\x7f\u00e9\u2028\U0001f389'
    assert subject_key("", text, "t", "i") == f'["","{escaped}","t","i"]'.encode()


def test_no_separator_collides() -> None:
    assert subject_key("a", 'b","c', "d", "e") != subject_key("a", "b", "c", "d")
    assert metric_definition_key("acme", "m") == b'["acme","m"]'
    assert threshold_event_key("t", "o", "m", "s", "i") == b'["t","o","m","s","i"]'


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(InvalidUsage, match="surrogate"):
        subject_key("a", "b", "c", "\ud800")


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"\xff",
        b"[]",
        b'["a","b","c"]',
        b'["a","b","c","d","e"]',
        b'["a","b","c",4]',
        b'["a", "b","c","d"]',
        b'["a","b","c","\\u0064"]',
        b'["a","b","c","\\/"]',
        b'["a","b","c","\\ud800"]',
        b'{"a":1}',
        b"[" * 100_000,
    ],
)
def test_only_the_canonical_form_is_a_key(key: bytes) -> None:
    with pytest.raises(ValueError):
        parse_subject_key(key)


@pytest.mark.parametrize(
    ("data", "expected"),
    [  # org.apache.kafka.common.utils.UtilsTest.testMurmur2
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_kafkas(data: bytes, expected: int) -> None:
    assert murmur2(data) == expected
    assert partition_of(data, 6) == (expected & 0x7FFFFFFF) % 6


@given(st.binary(max_size=64), st.integers(1, 100))
def test_a_partition_is_one_of_those_there_are(key: bytes, count: int) -> None:
    assert -(2**31) <= murmur2(key) < 2**31
    assert 0 <= partition_of(key, count) < count
