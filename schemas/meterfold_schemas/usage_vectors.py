"""Test vectors for producers in any language: a hundred events of `usage.recorded` with the bytes that belong to them.

`vectors/usage_recorded.v1.jsonl` has one JSON object per line: `case`, `fields` (the quantity as decimal text, the
timestamp in UTC microseconds, the metadata as the JSON text that the value holds; a field that is left out is null),
`key` and `value` in hexadecimal (the value with its ten header bytes), and `partition`, the partition of a topic with
PARTITIONS partitions. derive.py writes the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

from meterfold_schemas.keys import partition_of
from meterfold_schemas.periods import from_micros
from meterfold_schemas.usage import UsageRecorded

__all__ = ["FILE", "PARTITIONS", "Vector", "made", "stored", "text"]

FILE: Final = "vectors/usage_recorded.v1.jsonl"
PARTITIONS: Final = 6

_COUNT: Final = 100
_NOON: Final = 1_749_988_800_000_000  # 2025-06-15 12:00 UTC
_SECOND: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Vector:
    """One event: `fields` as in the file, and the bytes that every producer has to write for it."""

    case: str
    fields: dict[str, Any]
    key: bytes
    value: bytes
    partition: int


def made() -> list[Vector]:
    """The vectors, made of the rules of this package."""
    return [_vector(number, case, fields) for number, (case, fields) in enumerate(_cases())]


def stored() -> list[Vector]:
    """The vectors as they ship."""
    lines = (files("meterfold_schemas") / FILE).read_text(encoding="utf-8").splitlines()
    return [_read(json.loads(line)) for line in lines]


def text() -> str:
    """The content of the file. ASCII only, so that no editor and no checkout changes a byte of it."""
    return "".join(json.dumps(_written(vector), separators=(",", ":")) + "\n" for vector in made())


def _written(vector: Vector) -> dict[str, Any]:
    return {
        "case": vector.case,
        "fields": vector.fields,
        "key": vector.key.hex(),
        "value": vector.value.hex(),
        "partition": vector.partition,
    }


def _read(line: dict[str, Any]) -> Vector:
    key, value = bytes.fromhex(line["key"]), bytes.fromhex(line["value"])
    return Vector(line["case"], line["fields"], key, value, line["partition"])


def _vector(number: int, case: str, fields: dict[str, Any]) -> Vector:
    fields = {
        "id": f"vector-{number:03d}",
        "org_id": "acme",
        "metric_key": "api.calls",
        "subject_type": "user",
        "subject_id": f"u-{number}",
        "quantity": "1",
        "timestamp": _NOON + number * _SECOND,
        **fields,
    }
    event = UsageRecorded(**{**fields, "timestamp": from_micros(fields["timestamp"])})
    return Vector(case, fields, event.key, event.to_bytes(), partition_of(event.key, PARTITIONS))


def _cases() -> Iterator[tuple[str, dict[str, Any]]]:
    yield from (chosen := [*_texts(), *_quantities(), *_lengths(), *_optional(), *_times()])
    for number in range(_COUNT - len(chosen)):  # keys of every length modulo 4, which murmur2 treats differently
        yield f"subject {number}", {"subject_id": "u" * number + "-", "quantity": str(number)}


def _texts() -> Iterator[tuple[str, dict[str, Any]]]:
    yield "without an organization", {"org_id": ""}
    for code in (0x01, 0x07, 0x08, 0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x1B, 0x1F, 0x7F):
        yield f"control character U+{code:04X}", {"subject_id": f"a{chr(code)}b"}
    for name, subject in {
        "every control character": "".join(map(chr, range(1, 0x20))),
        "characters that HTML escapes": "<a href='x'>&amp;</a>",
        "quotation marks": '"quoted"',
        "a backslash": "C:\\new\\table",
        "a backslash and a quotation mark": '\\"',
        "an escape as plain text": "\\u003c \\n",
        "a solidus": "a/b",
        "U+2028 and U+2029": "line\u2028paragraph\u2029end",
        "C1 control characters": "\x80\x85\x9f",
        "two bytes in UTF-8": "Zo\u00eb K\u00e4ytt\u00e4j\u00e4",
        "a combining character": "Zoe\u0308",
        "three bytes in UTF-8": "\u96ea\u2603\u20ac",
        "surrogate pairs": "\U0001f389\U0001f468\u200d\U0001f469\u200d\U0001f467",
        "the first and the last surrogate pair": "\U00010000\U0010ffff",
        "private use and a byte order mark": "\ue000\ufeff\ufffd",
        "from right to left": "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
        "spaces around": "  ada  ",
        "text that looks like JSON": '","user","ada"]',
        "a number as text": "17",
    }.items():
        yield name, {"subject_id": subject}
    yield "separators in every part", {"org_id": 'a","b', "subject_type": "[1,2]", "subject_id": "{}"}
    yield "every part beyond ASCII", {"org_id": "Zo\u00eb & S\u00f8n", "subject_type": "\u4eba", "subject_id": "\u2603"}
    yield "an id beyond ASCII", {"id": "<\u2028\U0001f389\n>"}
    yield "every character of a metric key", {"metric_key": "abcdefghijklmnopqrstuvwxyz0123456789_.-"}


def _quantities() -> Iterator[tuple[str, dict[str, Any]]]:
    for quantity in (
        "0",
        "-1",
        "12.5",
        "0.1",
        "-0.1",
        "1.500000000",
        "0.000000001",
        "-0.000000001",
        "0.000000127",
        "0.000000128",
        "-0.000000128",
        "-0.000000129",
        "0.000032768",
        "9007199.254740993",
        "9223372036.854775807",
        "9223372036.854775808",
        "-9223372036.854775808",
        "-9223372036.854775809",
        "18446744073.709551616",
        "99999999999999999999.999999999",
        "-99999999999999999999.999999999",
        "12345678901234567890.123456789",
        "-12345678901234567890.123456789",
    ):
        yield f"quantity {quantity}", {"quantity": quantity}


def _lengths() -> Iterator[tuple[str, dict[str, Any]]]:
    yield "63 bytes, the longest text with a length of one byte", {"subject_id": "x" * 63}
    yield "64 bytes", {"subject_id": "x" * 64}
    yield "512 bytes", {"subject_id": "x" * 512}
    yield "512 bytes of 2 each", {"subject_id": "\u00e4" * 256}
    yield "512 bytes of 4 each", {"subject_id": "\U0001f389" * 128}
    yield "a metric key of 200 characters", {"metric_key": "k" * 200}
    yield "an id of 512 bytes", {"id": "i" * 512}
    longest = {name: name[0] * 512 for name in ("org_id", "subject_type", "subject_id")}
    yield "every text as long as it may be", {**longest, "source": "s" * 512, "resource_id": "r" * 512}


def _optional() -> Iterator[tuple[str, dict[str, Any]]]:
    yield (
        "every field",
        {
            "quantity": "12.345678901",
            "source": "scheduler",
            "resource_type": "gpu",
            "resource_id": "node-7/gpu-1",
            "metadata": '{"region":"eu-west","spot":true,"tags":["batch","night"]}',
        },
    )
    yield "optional fields that are empty", {"source": "", "resource_type": "", "resource_id": ""}
    for name in ("source", "resource_type", "resource_id"):
        yield f"only {name}", {name: "<&>\u2028\U0001f389"}
    yield "empty metadata", {"metadata": "{}"}
    yield "metadata with spaces", {"metadata": ' { "a" : 1 } '}
    yield "metadata beyond ASCII", {"metadata": '{"note":"tab\\tand \\u00e9 and \u00e9 \U0001f389","\u96ea":null}'}
    yield "metadata with numbers", {"metadata": '{"a":[1,-2.5,1e3,0.1,12345678901234567890],"b":{"c":[]}}'}
    yield "metadata of 16 KiB", {"metadata": '{"text":"' + "m" * (16 * 1024 - 11) + '"}'}


def _times() -> Iterator[tuple[str, dict[str, Any]]]:
    yield "a timestamp with microseconds", {"timestamp": 1_735_689_599_999_999}
    yield "the first microsecond of a year", {"timestamp": 1_735_689_600_000_000}
    yield "a timestamp in whole milliseconds", {"timestamp": 1_740_787_200_123_000}
