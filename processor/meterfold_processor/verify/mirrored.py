"""Expected events, the event topics and their mirror against each other.

`early` are the ids that were read before the states: each of them must follow from a state. What was expected must be
among those that were read after the states. Rows were read in between: each must be an event, and each early event a
row, unless the mirror is behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from meterfold_processor.checker.rules import WindowRules
from meterfold_processor.kafka.offsets import Place
from meterfold_processor.verify.alerts import Crossed, SeenEvent
from meterfold_processor.verify.events import TABLE, EventLog, Mirrored, read_some
from meterfold_processor.verify.report import Finding, Findings, Unproven
from meterfold_processor.verify.states import name_of
from meterfold_schemas.keys import partition_of, threshold_event_key
from meterfold_sink.client import Client

__all__ = ["Alerts"]

_DETAILED: Final = 20


@dataclass(frozen=True, slots=True)
class Alerts:
    """`marks`: the mark of each partition of usage.recorded; `mirror_at`: the mirror's positions."""

    log: EventLog
    client: Client
    rules: WindowRules
    partition_count: int
    mark: int
    findings: Findings

    def compare(
        self,
        expected: Mapping[str, Crossed],
        early: set[str],
        rows: Mapping[str, Mirrored],
        mirror_at: Mapping[tuple[str, int], int],
    ) -> None:
        expired = sum(self._expected(event_id, crossed, rows) for event_id, crossed in expected.items())
        behind, altered = 0, []
        for event_id, seen in self.log.seen.items():
            self._seen(event_id, seen, event_id in early and event_id not in expected)
            row = rows.get(event_id)
            if row is None:
                if event_id in early:
                    behind += self._not_mirrored(event_id, seen, mirror_at)
            elif row.rows > 1:
                self._add(TABLE, seen.crossed, event_id, "rows of one event", "one row", f"{row.rows} rows")
            elif row.digest != seen.digest:
                altered.append(event_id)
        self._name_altered(altered)
        for event_id, row in rows.items():
            if event_id not in self.log.seen and event_id not in expected and not self._may_have_expired(None, row):
                self._invented(event_id)
        if expired:
            self._cannot(
                f"{expired} events are older than what the topics still hold; their rows in {TABLE} exist", False
            )
        if behind:
            self._cannot(f"{behind} events are not in {TABLE} yet: the checker's mirror is behind them", True)

    def _expected(self, event_id: str, crossed: Crossed, rows: Mapping[str, Mirrored]) -> int:
        """1 where the topic does not reach back to the event any more, and its row exists."""
        if event_id in self.log.seen:
            return 0
        row = rows.get(event_id)
        if row is not None and self._may_have_expired(crossed, row):
            return 1
        topic = self.log.topic_of[crossed.crossing.event_type]
        self._add(topic, crossed, event_id, "event of a crossing in threshold.state", "one message", "none")
        if row is None:
            self._add(TABLE, crossed, event_id, "event of a crossing in threshold.state", "one row", "none")
        return 0

    def _seen(self, event_id: str, seen: SeenEvent, unexpected: bool) -> None:
        topic, partition, offset = seen.places[0]
        if len(seen.places) > 1:
            where = ", ".join(f"partition {p} offset {o}" for _, p, o in seen.places)
            found = f"{len(seen.places)} messages ({where})"
            self._add(topic, seen.crossed, event_id, "messages of one event", "one message", found)
        end = seen.crossed.target.window.end
        # A state that is past remembering was removed; its events stay on their topic for a while.
        if unexpected and not self.rules.is_forgotten(end, self.mark):
            where = f"partition {partition} offset {offset}"
            self._add(
                topic, seen.crossed, event_id, "event, against threshold.state", "no such crossing", f"one at {where}"
            )

    def _not_mirrored(self, event_id: str, seen: SeenEvent, mirror_at: Mapping[tuple[str, int], int]) -> int:
        topic, partition, offset = seen.places[0]
        if mirror_at.get(Place(topic, partition), 0) <= offset:
            return 1
        where = f"event at {topic} partition {partition} offset {offset}"
        self._add(TABLE, seen.crossed, event_id, where, "one row", "none")
        return 0

    def _name_altered(self, event_ids: list[str]) -> None:
        details = event_ids[: min(_DETAILED, self.findings.limit)]
        rows = read_some(self.client, details) if details else {}
        for event_id in event_ids:
            seen = self.log.seen[event_id]
            expected, found = "the values of the event", "other values"
            if event_id in rows:
                event, row = self.log.row(seen), rows[event_id]
                names = [name for name in event if event[name] != row.get(name)]
                expected, found = _shown(event, names), _shown(row, names)
            self._add(TABLE, seen.crossed, event_id, "row of an event", expected, found)

    def _invented(self, event_id: str) -> None:
        self.findings.add(
            Finding(
                check="events",
                place=TABLE,
                name=f"event {event_id}",
                what="row of an event that is on no topic",
                expected="no row",
                found="one row",
            )
        )

    def _may_have_expired(self, crossed: Crossed | None, row: Mirrored) -> bool:
        """Whether a topic's retention may have taken the event that this row shows."""
        topic = next((name for name, kind in self.log.type_of.items() if kind == row.topic_type), None)
        if topic is None:
            return False
        places = [Place(topic, partition) for partition in range(self.partition_count)]
        if crossed is not None:
            key = threshold_event_key(crossed.target.threshold_id, *crossed.target.window.subject)
            places = [Place(topic, partition_of(key, self.partition_count))]
        return any(
            self.log.starts.get(place, 0) > 0
            and (place not in self.log.oldest or row.occurred_at <= self.log.oldest[place])
            for place in places
        )

    def _add(self, place: str, crossed: Crossed, event_id: str, what: str, expected: str, found: str) -> None:
        self.findings.add(
            Finding(
                check="events",
                place=place,
                window=name_of(crossed.target.window),
                name=f"{crossed} of threshold {crossed.target.threshold_id}, event {event_id}",
                what=what,
                expected=expected,
                found=found,
            )
        )

    def _cannot(self, why: str, passing: bool) -> None:
        self.findings.cannot(Unproven(check="events", place=TABLE, why=why, passing=passing))


def _shown(row: Mapping[str, Any], names: list[str]) -> str:
    return ", ".join(f"{name} {row.get(name)}" for name in names)
