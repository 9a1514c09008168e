"""A loop tuned by hand: one consumer, dictionaries, one insert per flush. It guarantees nothing: the ids, the windows
and the offsets are in memory only.

The message key names the subject, so neither format is decoded further than id, quantity and time.
"""

import json
import os
import time

import numpy as np
import orjson
import pyarrow as pa
from clickhouse_connect import get_client
from confluent_kafka import Consumer

ENV = os.environ
HOUR, DAY = 3_600_000_000, 86_400_000_000
NANO = 10**9
FLUSH_EVENTS = 100_000
FLUSH_SECONDS = 1.0
DECIMAL = pa.decimal128(38, 9)


def from_json(value: bytes) -> tuple[str, int, int]:
    """Id, quantity in units of 10^-9, microseconds."""
    event = orjson.loads(value)
    quantity = event["quantity"]
    quantity = quantity * NANO if type(quantity) is int else round(float(quantity) * NANO)
    stamp = event["timestamp"]
    start = hour_of.get(stamp[:13])
    if start is None:
        start = hour_of[stamp[:13]] = int(np.datetime64(stamp[:13], "us").astype(np.int64))
    return event["id"], quantity, start


def from_avro(value: bytes) -> tuple[bytes, int, int]:
    """The ten header bytes, then id, four texts of the subject, quantity, four optional texts around the time."""
    at = 10
    fields = []
    for _ in range(6):
        size = value[at] >> 1
        at += 1
        if value[at - 1] & 0x80:
            size, at = (value[at - 1] & 0x7F | value[at] << 7) >> 1, at + 1
        fields.append(value[at : at + size])
        at += size
    for _ in range(4):  # source, resource_type, resource_id, metadata
        if value[at]:
            raise ValueError("this loop reads events without optional fields")
        at += 1
    zigzag = shift = 0
    while True:
        zigzag |= (value[at] & 0x7F) << shift
        if value[at] < 0x80:
            break
        at, shift = at + 1, shift + 7
    stamp = (zigzag >> 1) ^ -(zigzag & 1)
    return fields[0], int.from_bytes(fields[5], "big", signed=True), stamp - stamp % HOUR


hour_of: dict[str, int] = {}
month_of: dict[int, int] = {}
decode = from_json if ENV["PEER_FORMAT"] == "json" else from_avro
seen: set[object] = set()
windows: dict[tuple[bytes, int, int], list[int]] = {}
touched: set[tuple[bytes, int, int]] = set()


def fold(key: bytes, value: bytes) -> None:
    event_id, quantity, hour = decode(value)
    identity = (key, event_id)
    if identity in seen:
        return
    seen.add(identity)
    day = hour - hour % DAY
    month = month_of.get(day)
    if month is None:
        month = month_of[day] = int(
            np.datetime64(day, "us").astype("datetime64[M]").astype("datetime64[us]").astype(int)
        )
    for window in ((key, 1, hour), (key, 2, day), (key, 3, month), (key, 4, 0)):
        state = windows.get(window)
        if state is None:
            windows[window] = [1, quantity, quantity, quantity]
        else:
            state[0] += 1
            state[1] += quantity
            if quantity < state[2]:
                state[2] = quantity
            if quantity > state[3]:
                state[3] = quantity
        touched.add(window)


subjects: dict[bytes, list[str]] = {}


def decimals(numbers: np.ndarray) -> pa.Array:
    """Arrow decimals of 64-bit integers: each gets its sign as the upper half."""
    limbs = np.stack([numbers, numbers >> 63], axis=1)
    return pa.Array.from_buffers(DECIMAL, len(numbers), [None, pa.py_buffer(limbs)])


def flush() -> None:
    keys, periods, starts = zip(*touched, strict=True)
    for key in keys:
        if key not in subjects:
            subjects[key] = json.loads(key)
    names = zip(*(subjects[key] for key in keys), strict=True)
    states = np.array([windows[window] for window in touched], np.int64)
    columns = [pa.array(column) for column in names]
    columns += [pa.array(periods, pa.int8()), pa.array(np.array(starts) // 10**6, pa.uint32()), pa.array(states[:, 0])]
    columns += [decimals(states[:, column]) for column in (1, 2, 3)]
    target.insert_arrow("windows", pa.table(columns, names=COLUMNS))
    touched.clear()


COLUMNS = [
    "org_id", "metric_key", "subject_type", "subject_id", "period_type", "period_start", "record_count", "sum", "min",
    "max",
]  # fmt: skip
target = get_client(
    dsn=ENV["PEER_CLICKHOUSE_URL"],
    username=ENV["PEER_CLICKHOUSE_USER"],
    password=ENV["PEER_CLICKHOUSE_PASSWORD"],
    database=ENV["PEER_CLICKHOUSE_DATABASE"],
)
consumer = Consumer(
    {
        "bootstrap.servers": ENV["PEER_BOOTSTRAP"],
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": ENV["PEER_USERNAME"],
        "sasl.password": ENV["PEER_PASSWORD"],
        "group.id": ENV["PEER_GROUP"],
        "auto.offset.reset": "earliest",
        "fetch.min.bytes": 1_000_000,
        "fetch.wait.max.ms": 100,
        "fetch.message.max.bytes": 8_000_000,
        "queued.min.messages": 500_000,
    }
)
consumer.subscribe([ENV["PEER_TOPIC"]])
pending, flushed = 0, time.monotonic()
while True:
    messages = consumer.consume(10_000, 0.2)
    if messages and pending == 0 and not windows:
        print("ready", flush=True)
    for message in messages:
        fold(message.key(), message.value())
    pending += len(messages)
    if pending >= FLUSH_EVENTS or (touched and time.monotonic() - flushed > FLUSH_SECONDS):
        flush()
        pending, flushed = 0, time.monotonic()
