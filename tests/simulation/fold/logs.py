"""Logs of one partition: what the oracle knows about each message, and the message with its real bytes."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal

from meterfold_processor.fold.messages import LOG_APPEND_TIME
from meterfold_processor.fold.rules import Rules
from meterfold_schemas import framing
from meterfold_schemas.keys import partition_of, subject_key
from meterfold_schemas.periods import DAY, HOUR, from_micros, micros
from meterfold_schemas.quantities import exact_unscaled
from meterfold_schemas.schema_keys import header_of, key_of
from simulation.fold.oracle import Event

PARTITION = 0
PARTITION_COUNT = 2
RULES = Rules(
    horizon=10 * DAY,
    future_tolerance=3 * DAY,
    slack=5 * DAY,
    record_retention=10_000 * DAY,
    partition_count=PARTITION_COUNT,
)
Subject = tuple[str, str, str, str]
Form = Literal["avro", "json", "cloud event"]
FORMS: tuple[Form, ...] = ("avro", "avro", "json", "cloud event")

ALIAS = bytes.fromhex("f69a6eec52c0f203")
"""A fingerprint that a newer version knows, and an older one does not."""
UNKNOWN = bytes(range(8))
"""One that no version knows."""
REGISTERED = key_of(7)
"""The id of our schema in a Schema Registry that some workers can ask, when it answers."""
STRANGE = key_of(8)
"""An id that the registry does not have."""
FOREIGN = (ALIAS, UNKNOWN, REGISTERED, STRANGE)


def _subjects_on(partition: int) -> list[Subject]:
    names: Iterable[Subject] = ((f"org{n % 2}", "api.calls", "user", f"u{n}") for n in range(40))
    return [subject for subject in names if partition_of(subject_key(*subject), PARTITION_COUNT) == partition]


HERE = _subjects_on(PARTITION)[:3]
ELSEWHERE = _subjects_on(1 - PARTITION)[0]

TURNS = [
    datetime(2024, 2, 29, 21, 30, tzinfo=UTC),  # the last hours of a leap day, of a month, of a day
    datetime(2023, 12, 31, 23, 10, tzinfo=UTC),
    datetime(2025, 3, 30, 0, 40, tzinfo=UTC),  # clocks change in Europe, never in UTC
    datetime(2026, 6, 14, 12, 0, tzinfo=UTC),
]


@dataclass(frozen=True)
class FakeMessage:
    """What the fold reads of a confluent_kafka.Message; `stamp` in UTC microseconds, whole milliseconds."""

    at_offset: int
    stamp: int
    raw_key: bytes | None
    raw_value: bytes | None
    on_partition: int = PARTITION
    stamp_kind: int = LOG_APPEND_TIME

    def partition(self) -> int:
        return self.on_partition

    def offset(self) -> int:
        return self.at_offset

    def timestamp(self) -> tuple[int, int]:
        return self.stamp_kind, self.stamp // 1000

    def key(self) -> bytes | None:
        return self.raw_key

    def value(self) -> bytes | None:
        return self.raw_value


@dataclass(frozen=True)
class Log:
    events: list[Event]
    messages: list[FakeMessage]

    @property
    def end(self) -> int:
        return self.events[-1].offset + 1 if self.events else 0


def form_of(event: Event) -> Form:
    """What the producer of an event writes: of four, two write Avro, and one each JSON and CloudEvents."""
    return FORMS[zlib.crc32(f"{event.offset}/{event.id}".encode()) % len(FORMS)]


def value_of(event: Event, form: Form = "avro") -> bytes:
    """The bytes a producer would send; nothing is checked, so that broken events can be written too."""
    org_id, metric_key, subject_type, subject_id = event.subject
    record = {
        "id": event.id,
        "org_id": org_id,
        "metric_key": metric_key,
        "subject_type": subject_type,
        "subject_id": subject_id,
        "quantity": exact_unscaled(event.quantity),
        "source": None,
        "resource_type": "route",
        "resource_id": None,
        "metadata": json.dumps({"at": event.offset}),
        "timestamp": event.time,
    }
    if form == "avro":
        return framing.encode("usage_recorded", record)
    fields = {
        **record,
        "quantity": f"{event.quantity:f}",
        "timestamp": from_micros(event.time).isoformat(),
        "metadata": {"at": event.offset},
    }
    if form == "cloud event":
        envelope = {"specversion": "1.0", "type": "usage.recorded", "id": fields.pop("id"), "data": fields}
        fields = {**envelope, "time": fields.pop("timestamp")}
    return json.dumps(fields).encode()


def message_of(event: Event, *, partition: int = PARTITION) -> FakeMessage:
    key = subject_key(*event.subject)
    return FakeMessage(event.offset, event.stamp, key, value_of(event, form_of(event)), partition)


def log_of(events: Sequence[Event]) -> Log:
    """A log of readable events, as a history names them."""
    return Log(list(events), [message_of(event) for event in events])


def random_log(rng: random.Random, size: int) -> Log:
    """Few subjects and ids, so that they meet: duplicates across days and horizons, ties, credits, late and early
    events, poison, stamps that step back within the slack, offsets with gaps where transaction markers stand."""
    events: list[Event] = []
    messages: list[FakeMessage] = []
    subjects, ids = HERE[: rng.choice([1, 1, 2, 3])], rng.choice(["x", "xy", "xyz", "abcdefgh"])
    pace = rng.choice([[0, 0, 1000, HOUR // 4], [0, HOUR, DAY // 2, DAY], [DAY, 2 * DAY, 5 * DAY, 6 * DAY]])
    back = rng.choice([[0], [0, 0, 0, 1000, HOUR], [0, 0, DAY, 2 * DAY, 4 * DAY, RULES.slack]])
    latest = micros(rng.choice(TURNS))
    offset = rng.choice([0, 0, 0, 7])
    for _ in range(size):
        latest += rng.choice([*pace, *pace, HOUR, 3 * DAY])
        stamp = latest - rng.choice(back)
        subject, name = rng.choice(subjects), rng.choice(ids)
        if events and rng.random() < 0.25:  # a retry about when the first try is forgotten
            first = rng.choice(events)
            edge = first.stamp + RULES.lookback + rng.choice([-DAY, -1000, 0, 1000])
            if edge >= latest - RULES.slack:
                stamp, subject, name = edge, first.subject, first.id
                latest = max(latest, stamp)
        time = _time(rng, stamp, events)
        if events and not _timely(events[-1]) and rng.random() < 0.5:  # sent again with its clock set right
            subject, name, time = events[-1].subject, events[-1].id, stamp
        event = Event(offset, stamp, subject, name, _quantity(rng), time)
        message = message_of(event)
        if rng.random() < 0.12:
            event, message = _spoiled(rng, event, message)
        events.append(event)
        messages.append(message)
        offset += rng.choice([1, 1, 1, 1, 2, 3])
    return Log(events, messages)


def with_foreign_headers(rng: random.Random, log: Log) -> Log:
    """Some of the readable events, as libraries send them that compute another fingerprint or use a registry."""
    events, messages = list(log.events), list(log.messages)
    for number, (event, message) in enumerate(zip(log.events, log.messages, strict=True)):
        if event.poison is None and rng.random() < 0.3:
            fingerprint = rng.choice(FOREIGN)
            value = header_of(fingerprint) + value_of(event)[framing.HEADER_SIZE :]
            events[number] = _with(event, fingerprint=fingerprint)
            messages[number] = FakeMessage(message.at_offset, message.stamp, message.raw_key, value)
    return Log(events, messages)


def _timely(event: Event) -> bool:
    return -RULES.future_tolerance <= event.stamp - event.time <= RULES.horizon


def _quantity(rng: random.Random) -> Decimal:
    small = Decimal(rng.randint(-3, 5))
    return rng.choice([small, small, Decimal("0.000000001"), Decimal("-2.5"), Decimal(10) ** 18, -(Decimal(10) ** 19)])


def _time(rng: random.Random, stamp: int, events: list[Event]) -> int:
    horizon, tolerance = RULES.horizon, RULES.future_tolerance
    near = [e.time for e in events if stamp - horizon <= e.time <= stamp + tolerance]
    if near and rng.random() < 0.2:
        return rng.choice(near)  # a tie
    usual = [0, 0, 1, HOUR // 2, HOUR, DAY, 4 * DAY, horizon, -tolerance, -HOUR]
    return stamp - rng.choice([*usual, *usual, *usual, horizon + 1, -tolerance - 1])


def _spoiled(rng: random.Random, event: Event, message: FakeMessage) -> tuple[Event, FakeMessage]:
    """The same event so that it must be rejected."""
    good = message.raw_value or b""
    kind = rng.choice(["cut", "empty", "two", "forged", "noise", "key", "no key", "elsewhere", "invalid"])
    key, value, reason = message.raw_key, good, "undecodable"
    match kind:
        case "cut":
            value = good[: rng.randrange(1, len(good))]
        case "empty":
            value = b""
        case "two":
            value = good + good
        case "forged":  # a second record, with room for what the decoder puts between two
            value = good + rng.randbytes(16) + value_of(_with(event, id="forged"))
        case "noise":
            value = rng.randbytes(30)
        case "key":
            key, reason = subject_key("org0", "api.calls", "user", "somebody else"), "misrouted"
        case "no key":
            key, reason = None, "misrouted"
        case "elsewhere":
            key, reason = subject_key(*ELSEWHERE), "misrouted"
            value = value_of(_with(event, subject=ELSEWHERE), form_of(event))
        case "invalid":
            value, reason = value_of(_with(event, quantity=Decimal(10) ** 20), form_of(event)), "invalid"
    return _with(event, poison=reason), FakeMessage(event.offset, event.stamp, key, value)


def _with(event: Event, **changes: object) -> Event:
    return Event(**{**event.__dict__, **changes})  # type: ignore[arg-type]
