"""The test vectors: what ships is what the rules make, and other implementations agree with it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import BytesIO
from typing import Any

import avro.io
import avro.schema
import pytest

from meterfold_schemas import catalog, usage_vectors
from meterfold_schemas.framing import HEADER_SIZE
from meterfold_schemas.usage import UsageRecorded
from meterfold_schemas.usage_encoder import UsageEncoder
from meterfold_schemas.usage_fields import NAMES, OPTIONAL

VECTORS = usage_vectors.stored()


def test_what_ships_is_what_the_rules_make() -> None:
    assert usage_vectors.made() == VECTORS
    assert usage_vectors.text().isascii()


def test_there_are_a_hundred_different_ones() -> None:
    assert len(VECTORS) == 100
    assert len({vector.case for vector in VECTORS}) == 100
    assert len({vector.fields["id"] for vector in VECTORS}) == 100
    assert {vector.partition for vector in VECTORS} == set(range(usage_vectors.PARTITIONS))


def test_they_have_what_implementations_get_wrong() -> None:
    keys = b"".join(vector.key for vector in VECTORS).decode()
    for text in (
        "<",
        ">",
        "&",
        "\u2028",
        "\u2029",
        "\U0001f389",
        "\x7f",
        "\u0085",
        "\ufeff",
        r"\u001f",
        r"\n",
        r"\"",
        r"\\",
    ):
        assert text in keys, text
    quantities = [Decimal(vector.fields["quantity"]) for vector in VECTORS]
    largest = Decimal("99999999999999999999.999999999")
    assert {min(quantities), max(quantities)} == {largest.copy_negate(), largest}  # -largest is rounded
    assert Decimal("-1E-9") in quantities
    assert any(vector.fields["metric_key"] == "k" * 200 for vector in VECTORS)
    assert any(len(vector.fields.get("metadata") or "") == 16 * 1024 for vector in VECTORS)
    assert {name for vector in VECTORS for name in OPTIONAL if vector.fields.get(name) == ""} == set(OPTIONAL) - {
        "metadata"
    }
    assert {len(vector.key) % 4 for vector in VECTORS} == {0, 1, 2, 3}


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.case)
def test_another_avro_library_reads_the_fields_of_a_vector(vector: usage_vectors.Vector) -> None:
    schema = avro.schema.parse(json.dumps(catalog.latest("usage_recorded").definition))
    body = BytesIO(vector.value[HEADER_SIZE:])
    read: Any = avro.io.DatumReader(schema).read(avro.io.BinaryDecoder(body))
    assert body.read() == b""
    micros = (read["timestamp"] - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    expected = {name: vector.fields.get(name) for name in NAMES}
    assert {**read, "timestamp": micros} == {**expected, "quantity": Decimal(vector.fields["quantity"])}


def test_a_key_is_json_that_other_parsers_read_and_has_the_shortest_escapes() -> None:
    for vector in VECTORS:
        parts = [vector.fields[name] for name in ("org_id", "metric_key", "subject_type", "subject_id")]
        assert json.loads(vector.key) == parts
        # RFC 8785 3.2.2.2, written a second time.
        short = {8: r"\b", 9: r"\t", 10: r"\n", 12: r"\f", 13: r"\r", 34: r"\"", 92: r"\\"}
        texts = (
            "".join(short.get(ord(c)) or (f"\\u{ord(c):04x}" if ord(c) < 32 else c) for c in part) for part in parts
        )
        assert vector.key == f"[{','.join(f'{chr(34)}{text}{chr(34)}' for text in texts)}]".encode()


def test_the_encoder_of_the_sdk_writes_the_same_bytes() -> None:
    encoder = UsageEncoder()
    for vector in VECTORS:
        fields = vector.fields
        subject = encoder.subject(*(fields[name] for name in ("org_id", "metric_key", "subject_type", "subject_id")))
        optional = [fields.get(name) for name in OPTIONAL]
        value = encoder.value(fields["id"], subject, fields["quantity"], fields["timestamp"], *optional)
        assert (subject.key, value) == (vector.key, vector.value), vector.case


def test_a_vector_is_read_by_the_event_model() -> None:
    for vector in VECTORS:
        event = UsageRecorded.from_bytes(vector.value)
        assert event.key == vector.key
        assert event.metadata == vector.fields.get("metadata")
