"""The events that follow from the states, and the events that exist. Pure.

A state counts the crossings of each level, so it says which events there have been: each level that was reached so
many times, and as many times left, once less where it still holds. Their ids follow from what they mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from meterfold_processor.checker.judge import Target
from meterfold_processor.checker.judged import LEVELS, Crossing, JudgedState
from meterfold_processor.checker.panes import Window
from meterfold_processor.checker.rules import CODES, end_of
from meterfold_schemas import ids
from meterfold_schemas.events import AlertType
from meterfold_schemas.periods import Period
from meterfold_schemas.vocabulary import Level

__all__ = ["Crossed", "SeenEvent", "crossed_of", "crossings_of", "event_id_of", "expected_events"]


@dataclass(frozen=True, slots=True)
class Crossed:
    """One event that has to be there: a crossing of a threshold in a window."""

    target: Target
    crossing: Crossing

    def __str__(self) -> str:
        return f"{self.crossing.event_type} ({self.crossing.level}, crossing {self.crossing.number})"


@dataclass(slots=True)
class SeenEvent:
    """One event id on the event topics: where its messages are (topic, partition, offset), and its row's digest."""

    crossed: Crossed
    digest: int
    places: list[tuple[str, int, int]] = field(default_factory=list)


def crossings_of(target: Target, state: JudgedState) -> Iterator[Crossed]:
    """Every event that led to a state."""
    reached: dict[Level, AlertType] = {
        Level.APPROACHING: "threshold.approaching",
        Level.EXCEEDED: "threshold.exceeded",
    }
    for step, count in zip((1, 2), state.crossings, strict=True):
        level = LEVELS[step]
        for number in range(1, count + 1):
            yield Crossed(target, Crossing(reached[level], level, number))
            if number < count or state.level < step:
                yield Crossed(target, Crossing("threshold.cleared", level, number))


def event_id_of(crossed: Crossed) -> str:
    window, crossing = crossed.target.window, crossed.crossing
    alert_id = ids.alert_id(
        crossed.target.threshold_id,
        *window.subject,
        window.period.value,
        window.start,
        crossing.level.value,
        crossing.number,
    )
    return ids.alert_event_id(alert_id, crossing.event_type)


def crossed_of(event_type: AlertType, record: Mapping[str, object]) -> Crossed:
    """What an event means, from its raw record (times in UTC microseconds)."""
    period, start = Period(str(record["period_type"])), _int(record["period_start"])
    subject = (
        str(record["org_id"]),
        str(record["metric_key"]),
        str(record["subject_type"]),
        str(record["subject_id"]),
    )
    window = Window(subject, period, start, end_of(CODES[period], start))
    crossing = Crossing(event_type, Level(str(record["level"])), _int(record["crossing"]))
    return Crossed(Target(str(record["threshold_id"]), window), crossing)


def expected_events(states: Iterable[tuple[Target, JudgedState]]) -> dict[str, Crossed]:
    """event id -> what it means, of all these states."""
    return {event_id_of(crossed): crossed for target, state in states for crossed in crossings_of(target, state)}


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value
