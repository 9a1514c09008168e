"""A loop tuned by hand: one consumer, dictionaries, one insert per flush. It guarantees nothing: the ids, the windows
and the offsets are in memory only.
"""

import os
import time

import usage
from confluent_kafka import Consumer

FLUSH_EVENTS = 100_000
FLUSH_SECONDS = 1.0


def from_avro(value: bytes) -> tuple[bytes, int, int]:
    """By hand, which is faster than fastavro: id, four texts of the subject, quantity, four optional texts, time."""
    at, fields = usage.HEADER_SIZE, []
    for _ in range(6):
        size = value[at]
        at += 1
        if size & 0x80:
            size, at = size & 0x7F | value[at] << 7, at + 1
        at += size >> 1
        fields.append(value[at - (size >> 1) : at])
    if any(value[at : at + 4]):
        raise ValueError("this loop reads events without optional fields")
    at += 4
    zigzag = shift = 0
    while value[at] & 0x80:
        zigzag |= (value[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    zigzag |= value[at] << shift
    stamp = (zigzag >> 1) ^ -(zigzag & 1)
    return fields[0], int.from_bytes(fields[5], "big", signed=True), stamp - stamp % usage.HOUR


decode = usage.from_json() if os.environ["PEER_FORMAT"] == "json" else from_avro
seen: set[tuple[bytes, str | bytes]] = set()
windows: dict[tuple[bytes, int, int], list[int]] = {}
changed: dict[tuple[bytes, int, int], list[int]] = {}


def fold(key: bytes, value: bytes) -> None:
    event_id, quantity, hour = decode(value)
    identity = (key, event_id)
    if identity in seen:
        return
    seen.add(identity)
    for period, start in usage.starts(hour):
        window = (key, period, start)
        state = windows.get(window)
        if state is None:
            windows[window] = state = [1, quantity, quantity, quantity]
        else:
            state[0] += 1
            state[1] += quantity
            if quantity < state[2]:
                state[2] = quantity
            if quantity > state[3]:
                state[3] = quantity
        changed[window] = state


target = usage.Target()
consumer = Consumer(
    {
        **usage.kafka(),
        "group.id": os.environ["PEER_GROUP"],
        "auto.offset.reset": "earliest",
        "fetch.min.bytes": 1_000_000,
        "fetch.wait.max.ms": 100,
        "fetch.message.max.bytes": 8_000_000,
        "queued.min.messages": 500_000,
    }
)
consumer.subscribe([os.environ["PEER_TOPIC"]])
pending, flushed = 0, time.monotonic()
while True:
    messages = consumer.consume(10_000, 0.2)
    if messages and not windows:
        print("ready", flush=True)
    for message in messages:
        fold(message.key(), message.value())
    pending += len(messages)
    if pending >= FLUSH_EVENTS or time.monotonic() - flushed > FLUSH_SECONDS:
        target.insert(changed)
        changed.clear()
        pending, flushed = 0, time.monotonic()
