"""CPU per event that the fold spends to decode each format of usage.recorded: python benchmarks/formats.py [EVENTS].

Avro comes with its own header and with the id of a Schema Registry, alone and mixed with the former. The events have
eight fields and metadata of two, about 330 bytes as JSON, with subjects of 1,000 users.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np

from meterfold_processor.fold.decode import decode
from meterfold_processor.fold.messages import Consumed
from meterfold_processor.fold.schemas import Schemas, always_read
from meterfold_schemas import catalog
from meterfold_schemas.framing import HEADER_SIZE
from meterfold_schemas.schema_keys import header_of, key_of
from meterfold_schemas.usage import UsageRecorded

BATCH = 50_000
REPEATS = 5
ID = key_of(42)
SCHEMAS = Schemas({**always_read(), ID: catalog.latest("usage_recorded")}, confluent=True)


NAMES = ("Avro", "Avro, id", "both", "JSON", "CloudEvent")


def values(number: int) -> tuple[bytes, bytes, bytes, bytes, bytes]:
    """One event as Avro, Avro with a registry id, either of both, JSON and a CloudEvent."""
    at = datetime(2026, 11, 22, 9, 30, tzinfo=UTC) + timedelta(milliseconds=number)
    fields = {
        "id": f"01936e5a-7c01-7b02-8c11-{number:012d}",
        "org_id": "acme",
        "metric_key": "llm.tokens",
        "subject_type": "user",
        "subject_id": f"user-{number % 1000}",
        "source": "gateway",
        "metadata": {"model": "large", "region": "eu-west"},
    }
    text = json.dumps(fields["metadata"])
    event = UsageRecorded(**{**fields, "metadata": text, "quantity": Decimal(number) / 1000, "timestamp": at})
    fields |= {"quantity": number / 1000, "timestamp": at.isoformat()}
    envelope = {"specversion": "1.0", "type": "usage.recorded", "source": "gateway", "id": fields["id"], "data": fields}
    avro = event.to_bytes()
    registered = header_of(ID) + avro[HEADER_SIZE:]
    either = registered if number % 2 else avro
    return avro, registered, either, json.dumps(fields).encode(), json.dumps(envelope).encode()


def spent(batch: list[bytes]) -> float:
    """The least CPU of some runs, in microseconds per event."""
    zeros = np.zeros(len(batch), np.int64)
    consumed = Consumed(zeros, np.arange(len(batch)), zeros, [b"k"] * len(batch), batch)
    found = []
    for _ in range(REPEATS):
        begun = time.process_time()
        frame = decode(consumed, SCHEMAS).frame
        found.append(time.process_time() - begun)
        assert frame["reason"].null_count() == len(batch), frame.filter(frame["reason"].is_not_null())
    return min(found) / len(batch) * 1e6


def main(events: int) -> None:
    made = list(zip(*map(values, range(events)), strict=True))
    avro = 0.0
    for name, batch in zip(NAMES, map(list, made), strict=True):
        micros = spent(batch)
        avro = avro or micros
        size = sum(map(len, batch)) // len(batch)
        print(f"{name:<10} {micros:5.2f} us per event, {micros / avro:4.1f} x Avro, {size} bytes")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else BATCH)
