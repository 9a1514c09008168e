"""The three event topics and their mirror in ClickHouse, read to known ends.

Memory: about 1 KB per event that the topics still hold; there are few of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from confluent_kafka import Message

from meterfold_processor.checker.mirror_rows import TABLES, row_of
from meterfold_processor.kafka.offsets import Place, topic_bounds
from meterfold_processor.kafka.reader import TopicReader
from meterfold_processor.verify.alerts import Crossed, SeenEvent, crossed_of, event_id_of
from meterfold_processor.verify.report import Finding, Findings
from meterfold_processor.verify.timerange import TimeRange
from meterfold_schemas import framing
from meterfold_schemas.errors import Poison, UnknownSchema
from meterfold_schemas.events import AlertType
from meterfold_schemas.periods import micros
from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.topics import Topics
from meterfold_sink.client import Client
from meterfold_sink.mirrored import mirrored_events

__all__ = ["TABLE", "EventLog", "Mirrored", "read_mirror", "read_some"]

TABLE: Final = "threshold_events"
_NAMES: Final = tuple(TABLES[TABLE].names)
_TYPES: Final[tuple[AlertType, ...]] = ("threshold.approaching", "threshold.exceeded", "threshold.cleared")


class EventLog:
    """What a read_committed reader sees of the event topics. `read_on` reads up to their ends as of the call."""

    def __init__(self, settings: KafkaSettings, reader: TopicReader, partition_count: int, findings: Findings) -> None:
        topics = Topics(settings.topic_prefix)
        names = (topics.threshold_approaching, topics.threshold_exceeded, topics.threshold_cleared)
        self.type_of: dict[str, AlertType] = dict(zip(names, _TYPES, strict=True))
        self.topic_of = {kind: name for name, kind in self.type_of.items()}
        self.seen: dict[str, SeenEvent] = {}
        self.messages = 0
        self.starts: dict[Place, int] = {}
        self.oldest: dict[Place, int] = {}
        """The broker's stamp of the first message that is still there (UTC microseconds)."""
        self._settings = settings
        self._reader = reader
        self._count = partition_count
        self._findings = findings
        self._positions: dict[Place, int] = {}

    def read_on(self) -> None:
        """Raises Retryable or Fatal."""
        starts, ends = topic_bounds(self._settings, dict.fromkeys(self.type_of, self._count))
        if not self._positions:
            self.starts = starts
        begin = {place: max(starts[place], self._positions.get(place, 0)) for place in ends}
        for batch in self._reader.scan(begin, ends):
            for message in batch:
                self._take(message)
        self._positions = {place: max(begin[place], end) for place, end in ends.items()}

    def keep(self, wanted: Callable[[Crossed], bool]) -> None:
        """Forget the events of which this is not so."""
        self.seen = {event_id: seen for event_id, seen in self.seen.items() if wanted(seen.crossed)}

    def row(self, seen: SeenEvent) -> dict[str, Any]:
        """The row that the first message of an event has to have in the mirror."""
        topic, partition, offset = seen.places[0]
        place = Place(topic, partition)
        for batch in self._reader.scan({place: offset}, {place: offset + 1}):
            for message in batch:
                return row_of(TABLE, message.key() or b"", message.value(), offset) or {}
        return {}

    def _take(self, message: Message) -> None:
        topic, partition, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
        place = Place(topic, partition)
        self.messages += 1
        self.oldest.setdefault(place, message.timestamp()[1] * 1000)
        try:
            schema, record = framing.decode(message.value() or b"")
            if schema.name != self.type_of[topic].replace(".", "_"):
                raise Poison("undecodable", f"a {schema.name} event")
            row = row_of(TABLE, message.key() or b"", message.value(), offset)
        except (Poison, UnknownSchema) as error:
            self._findings.add(_wrong(place, offset, None, "message", f"a {self.type_of[topic]} event", str(error)))
            return
        crossed = crossed_of(self.type_of[topic], record)
        event_id = str(record["event_id"])
        derived = event_id_of(crossed)
        if event_id != derived:
            self._findings.add(_wrong(place, offset, event_id, "event id of its contents", derived, event_id))
        seen = self.seen.setdefault(event_id, SeenEvent(crossed, _digest(row or {})))
        seen.places.append((topic, partition, offset))


@dataclass(slots=True)
class Mirrored:
    """Rows of threshold_events of one event id: their digest, when they say that it occurred, and how many."""

    digest: int
    occurred_at: int
    topic_type: str
    rows: int = field(default=0)


def read_mirror(client: Client, within: TimeRange | None = None) -> dict[str, Mirrored]:
    """event id -> its row; only of windows in the range, where one is given. Raises Retryable or Fatal."""
    found: dict[str, Mirrored] = {}
    for row in mirrored_events(client, _NAMES, within=None if within is None else within.bounds):
        occurred: datetime = row["occurred_at"]
        one = Mirrored(_digest(row), micros(occurred), str(row["event_type"]))
        found.setdefault(row["event_id"], one).rows += 1
    return found


def read_some(client: Client, event_ids: list[str]) -> dict[str, dict[str, Any]]:
    """The whole rows of a few events."""
    return {row["event_id"]: row for row in mirrored_events(client, _NAMES, event_ids=event_ids)}


def _digest(row: dict[str, Any]) -> int:
    return hash(tuple(row.get(name) for name in _NAMES))


def _wrong(place: Place, offset: int, name: str | None, what: str, expected: str, found: str) -> Finding:
    return Finding(
        check="events",
        place=place.topic,
        partition=place.partition,
        offset=offset,
        name=name and f"event {name}",
        what=what,
        expected=expected,
        found=found,
    )
