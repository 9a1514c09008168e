"""Message keys, and the partition a key belongs to.

A key is a compact JSON array in raw UTF-8 with the string escapes of RFC 8785 (JCS): no separator can collide, and
every language can build the same bytes. The partition is Kafka's own murmur2 of it, as the Java client and
ClickHouse's kafkaMurmurHash compute it.
"""

from __future__ import annotations

import json
from json.encoder import encode_basestring
from typing import Final

from meterfold_schemas.errors import InvalidUsage

__all__ = [
    "SUBJECT",
    "Name",
    "compact_array",
    "metric_definition_key",
    "murmur2",
    "parse_subject_key",
    "partition_of",
    "subject_key",
    "threshold_definition_key",
    "threshold_event_key",
]

#: The four fields that name one subject of one metric, in the order of a subject key.
SUBJECT: Final = ("org_id", "metric_key", "subject_type", "subject_id")
Name = tuple[str, str, str, str]
"""The values of SUBJECT. Names are ordered column by column, by their bytes, as the sort key of usage_windows is."""

_MASK: Final = 0xFFFFFFFF
_M: Final = 0x5BD1E995
_SEED: Final = 0x9747B28C


def subject_key(org_id: str, metric_key: str, subject_type: str, subject_id: str) -> bytes:
    """Key of `usage.recorded`: one subject of one metric. Raises InvalidUsage for text that is not valid Unicode."""
    return compact_array(org_id, metric_key, subject_type, subject_id)


def parse_subject_key(key: bytes) -> tuple[str, str, str, str]:
    """The four parts of a subject key. Raises ValueError for anything but its canonical form."""
    try:
        parts = json.loads(key.decode("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"not a subject key: {key[:200]!r}") from error
    match parts:
        case [str(org_id), str(metric_key), str(subject_type), str(subject_id)]:
            pass
        case _:
            raise ValueError(f"a subject key has four strings: {key[:200]!r}")
    try:
        canonical = subject_key(org_id, metric_key, subject_type, subject_id)
    except InvalidUsage as error:  # an escaped lone surrogate
        raise ValueError(str(error)) from error
    if canonical != key:
        raise ValueError(f"not the canonical form of a subject key: {key[:200]!r}")
    return org_id, metric_key, subject_type, subject_id


def metric_definition_key(org_id: str, key: str) -> bytes:
    """Key of `metric.defined`."""
    return compact_array(org_id, key)


def threshold_definition_key(threshold_id: str) -> bytes:
    """Key of `threshold.defined`."""
    return threshold_id.encode("utf-8")


def threshold_event_key(threshold_id: str, org_id: str, metric_key: str, subject_type: str, subject_id: str) -> bytes:
    """Key of `threshold.approaching`, `.exceeded` and `.cleared`: a threshold and the subject it judged."""
    return compact_array(threshold_id, org_id, metric_key, subject_type, subject_id)


def compact_array(*parts: str | int) -> bytes:
    """A JSON array of strings and integers without spaces, in UTF-8.

    Python's JSON escapes are those of RFC 8785: the two-character forms where JSON has one, lower-case \\u00xx for
    the other control characters, everything else raw.
    """
    text = ",".join([encode_basestring(part) if isinstance(part, str) else str(part) for part in parts])
    try:
        return f"[{text}]".encode()
    except UnicodeEncodeError as error:
        raise InvalidUsage(f"text with a lone surrogate cannot be written as UTF-8: {text[:200]!r}") from error


def partition_of(key: bytes, partition_count: int) -> int:
    """The partition Kafka's default (Java) partitioner gives a key."""
    return (murmur2(key) & 0x7FFFFFFF) % partition_count


def murmur2(data: bytes) -> int:
    """Kafka's murmur2 as a signed 32-bit integer (org.apache.kafka.common.utils.Utils.murmur2)."""
    length = len(data)
    h = _SEED ^ length
    whole = length & ~3
    for i in range(0, whole, 4):
        k = (int.from_bytes(data[i : i + 4], "little") * _M) & _MASK
        k ^= k >> 24
        h = ((h * _M) & _MASK) ^ ((k * _M) & _MASK)
    if whole < length:
        h ^= int.from_bytes(data[whole:], "little")
        h = (h * _M) & _MASK
    h ^= h >> 13
    h = (h * _M) & _MASK
    h ^= h >> 15
    return h - 0x1_0000_0000 if h & 0x8000_0000 else h
