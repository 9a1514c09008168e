"""What a log must come to: each message judged alone by the contract's own code, the rest by the plain oracle.

Nothing of the fold is used: no columns, no polars, no memory. Messages are read by fastavro, keys and partitions by
meterfold_schemas, windows and duplicates by the oracle of the simulation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from io import BytesIO

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Message
from fastavro.io.binary_decoder import BinaryDecoder

from meterfold_schemas import framing, usage_json
from meterfold_schemas.catalog import latest
from meterfold_schemas.errors import Poison, UnknownSchema
from meterfold_schemas.framing import HEADER_SIZE, schema_of
from meterfold_schemas.keys import SUBJECT, parse_subject_key, partition_of
from meterfold_schemas.periods import micros
from meterfold_schemas.quantities import exact_unscaled
from meterfold_schemas.schema_keys import CONFLUENT_HEADER_SIZE
from meterfold_schemas.usage import UsageRecorded
from meterfold_sink.rules import FoldRules
from simulation.fold.oracle import Event, Outcome, fold

Position = tuple[int, int]


@dataclass(frozen=True)
class Truth:
    """Positions are (partition, offset). An event that cannot be read has no entry in `events`."""

    messages: dict[Position, Message]
    events: dict[Position, UsageRecorded]
    outcomes: dict[int, Outcome]

    @classmethod
    def of(cls, log: Sequence[Message], rules: FoldRules, registered: Iterable[bytes] = ()) -> Truth:
        """`registered`: the headers of 5 bytes that stand for our schema in a Schema Registry."""
        headers = dict.fromkeys(registered, latest("usage_recorded").header)
        messages = {(message.partition(), message.offset()): message for message in log}
        events: dict[Position, UsageRecorded] = {}
        logs: dict[int, list[Event]] = {partition: [] for partition in range(rules.partition_count)}
        for position, message in sorted(messages.items()):
            reason, event = _judged(message, rules.partition_count, headers)
            if event is not None:
                events[position] = event
            logs[position[0]].append(_for_the_oracle(message, event, reason))
        outcomes = {
            partition: fold(part, rules.horizon_seconds * 1_000_000, rules.future_tolerance_seconds * 1_000_000)
            for partition, part in logs.items()
        }
        return cls(messages, events, outcomes)

    @property
    def counted(self) -> set[Position]:
        return {(partition, offset) for partition, out in self.outcomes.items() for offset in out.counted}

    @property
    def duplicates(self) -> dict[Position, int]:
        return {
            (partition, o): first for partition, out in self.outcomes.items() for o, first in out.duplicates.items()
        }

    @property
    def rejected(self) -> dict[Position, str]:
        return {
            (partition, o): reason for partition, out in self.outcomes.items() for o, reason in out.rejected.items()
        }


def stamp_of(message: Message) -> int:
    """The broker's stamp in UTC microseconds."""
    kind, milliseconds = message.timestamp()
    assert kind == TIMESTAMP_LOG_APPEND_TIME
    return milliseconds * 1000


def subject_of(message: Message) -> tuple[str, ...]:
    """Whose a rejected message is: by its body, else by its key; parts over 512 bytes are left out."""
    value = message.value() or b""
    if value.startswith(usage_json.OPENING):
        return _of_json(value) or _of_key(message)
    try:
        schema, record = framing.decode(value)
        readable = schema.name == "usage_recorded" and not _has_negative_branch(value)
    except (Poison, UnknownSchema):
        readable = False
    if readable:
        return _short(record[name] for name in SUBJECT)
    return _of_key(message)


def _of_json(value: bytes) -> tuple[str, ...] | None:
    """None where the fold cannot make columns of it: it is no event, or its quantity fits no decimal(38, 9)."""
    try:
        fields = usage_json.fields_of(value)
        exact_unscaled(Decimal(fields["quantity"]))
    except (Poison, ArithmeticError, ValueError):
        return None
    return _short(fields.get(name, "") for name in SUBJECT)


def _of_key(message: Message) -> tuple[str, ...]:
    with suppress(ValueError):
        return _short(parse_subject_key(message.key() or b""))
    return "", "", "", ""


def _short(parts: Iterable[str]) -> tuple[str, ...]:
    return tuple(part if len(part.encode()) <= 512 else "" for part in parts)


def _judged(
    message: Message, partitions: int, headers: Mapping[bytes, bytes]
) -> tuple[str | None, UsageRecorded | None]:
    value = message.value() or b""
    if value[:CONFLUENT_HEADER_SIZE] in headers:
        value = headers[value[:CONFLUENT_HEADER_SIZE]] + value[CONFLUENT_HEADER_SIZE:]
    try:
        event = UsageRecorded.from_bytes(value)
        if not value.startswith(usage_json.OPENING) and _has_negative_branch(value):
            return "undecodable", None
    except Poison as poison:
        return poison.reason, None
    except UnknownSchema:  # it went through, so an operator has declared it poison
        return "undecodable", None
    if message.key() != event.key or partition_of(event.key, partitions) != message.partition():
        return "misrouted", event
    return None, event


def _has_negative_branch(value: bytes) -> bool:
    """Whether a union names a branch below zero, which Avro does not have; fastavro counts it from the end."""
    body = BinaryDecoder(BytesIO(value[HEADER_SIZE:]))
    for field in schema_of(value).definition["fields"]:
        kind = field["type"]
        if isinstance(kind, list):
            branch = body.read_long()
            if branch < 0:
                return True
            kind = kind[branch]
        match kind if isinstance(kind, str) else kind["type"]:
            case "long":
                body.read_long()
            case "string" | "bytes":
                body.read_bytes()
    return False


def _for_the_oracle(message: Message, event: UsageRecorded | None, reason: str | None) -> Event:
    if event is None:
        return Event(message.offset(), stamp_of(message), ("", "", "", ""), "", Decimal(0), 0, reason)
    *subject, name = event.identity
    time = micros(event.timestamp)
    return Event(message.offset(), stamp_of(message), tuple(subject), name, event.quantity, time, reason)
