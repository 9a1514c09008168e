"""Judgements and aggregates as Kafka messages, and states read back from their topics.

Written from raw integers; the models of meterfold_schemas would make a Decimal and a datetime of every number first,
at several times the cost. A test compares the bytes of both.
"""

from __future__ import annotations

from functools import cache, lru_cache
from io import BytesIO
from typing import Any, Final

from fastavro import schemaless_writer

from meterfold_processor.checker.aggregates import AggregateColumns
from meterfold_processor.checker.emitted import encoded
from meterfold_processor.checker.judge import Judgement, Target
from meterfold_processor.checker.judged import LEVELS, Crossing, JudgedState, ReadPositions, Terms
from meterfold_processor.checker.panes import Window
from meterfold_processor.checker.rules import CODES, NEVER, end_of
from meterfold_processor.kafka.clients import Outgoing, OutgoingRun
from meterfold_schemas import catalog, cloudevents, framing, ids
from meterfold_schemas.errors import Poison
from meterfold_schemas.keys import threshold_event_key
from meterfold_schemas.periods import Period, from_micros
from meterfold_schemas.quantities import to_avro_bytes
from meterfold_schemas.topics import Topics
from meterfold_schemas.totals import percentage
from meterfold_schemas.traces import TraceContext
from meterfold_schemas.vocabulary import Action, Level

__all__ = ["Records", "read_state"]

SOURCE: Final = "/meterfold/checker"

Headers = tuple[tuple[str, bytes], ...]

_SCHEMAS: Final = {
    "threshold.approaching": "threshold_approaching",
    "threshold.exceeded": "threshold_exceeded",
    "threshold.cleared": "threshold_cleared",
}


class Records:
    """Makes the messages of one partition."""

    def __init__(self, topics: Topics, partition: int) -> None:
        self._topics = topics
        self._partition = partition
        self._alert_topics = {
            "threshold.approaching": topics.threshold_approaching,
            "threshold.exceeded": topics.threshold_exceeded,
            "threshold.cleared": topics.threshold_cleared,
        }

    def judgement(self, judgement: Judgement, now: int, trace: TraceContext | None = None) -> list[Outgoing]:
        """The state and the events of one change; `now` in UTC microseconds. The events carry the trace on."""
        traced = () if trace is None else trace.headers
        events = [self._event(judgement, crossing, now, traced) for crossing in judgement.events]
        return [self._state(judgement, now), *events]

    def aggregates(self, events: AggregateColumns, now: int) -> OutgoingRun:
        return encoded(events, self._topics.usage_aggregated, self._partition, SOURCE, now)

    def forgotten_state(self, target: Target) -> Outgoing:
        """The tombstone of a state."""
        return Outgoing(self._topics.threshold_state, None, _state_key(target), self._partition)

    def forgotten_window(self, key: bytes) -> Outgoing:
        """The tombstone of an emitted window, by the key of its events."""
        return Outgoing(self._topics.usage_aggregated, None, key, self._partition)

    def _state(self, judgement: Judgement, now: int) -> Outgoing:
        target, state = judgement.target, judgement.state
        approaching, exceeded = state.crossings
        record = {
            "threshold_id": target.threshold_id,
            "name": state.terms.name,
            **_window_fields(target.window),
            "level": LEVELS[state.level].value,
            "action": state.terms.action.value,
            "crossing_approaching": approaching,
            "crossing_exceeded": exceeded,
            "folded_through": state.positions.folded_through,
            "metric_position": state.positions.metric,
            "threshold_position": state.positions.threshold,
            "value": state.value,
            "threshold": state.terms.threshold,
            "warn_threshold": state.terms.warn_threshold,
            "approaching_alert_id": _alert_id(target, Level.APPROACHING, approaching) if state.level >= 1 else None,
            "exceeded_alert_id": _alert_id(target, Level.EXCEEDED, exceeded) if state.level >= 2 else None,
            "occurred_at": now,
        }
        value = _encoded("threshold_state", record)
        return Outgoing(self._topics.threshold_state, value, _state_key(target), self._partition)

    def _event(self, judgement: Judgement, crossing: Crossing, now: int, traced: Headers) -> Outgoing:
        target, state = judgement.target, judgement.state
        alert_id = _alert_id(target, crossing.level, crossing.number)
        event_id = ids.alert_event_id(alert_id, crossing.event_type)
        record = {
            "event_id": event_id,
            "occurred_at": now,
            "alert_id": alert_id,
            "threshold_id": target.threshold_id,
            **_window_fields(target.window),
            "level": crossing.level.value,
            "crossing": crossing.number,
            "threshold": state.terms.threshold,
            "warn_threshold": state.terms.warn_threshold,
            "actual_value": state.value,
            "percentage_used": percentage(state.value, state.terms.threshold),
            "action": state.terms.action.value,
        }
        return Outgoing(
            self._alert_topics[crossing.event_type],
            _encoded(_SCHEMAS[crossing.event_type], record),
            threshold_event_key(target.threshold_id, *target.window.subject),
            headers=_headers(crossing.event_type, event_id, now, target.window) + traced,
        )


def read_state(value: bytes) -> tuple[Target, JudgedState]:
    """A value of `threshold.state`. Raises Poison or UnknownSchema."""
    record = _record(value, "threshold_state")
    positions = ReadPositions(record["folded_through"], record["metric_position"], record["threshold_position"])
    terms = Terms(record["name"], record["threshold"], record["warn_threshold"], Action(record["action"]))
    crossings = record["crossing_approaching"], record["crossing_exceeded"]
    state = JudgedState(LEVELS.index(Level(record["level"])), crossings, positions, record["value"], terms)
    return Target(record["threshold_id"], _window(record)), state


def _encoded(name: str, record: dict[str, Any]) -> bytes:
    """As framing.encode, which also checks every field: those of a judgement are made here."""
    schema = catalog.default().latest(name)
    for field in _decimals(name):
        record[field] = to_avro_bytes(record[field])
    out = BytesIO()
    out.write(schema.header)
    schemaless_writer(out, schema.raw, record)
    return out.getvalue()


@cache
def _decimals(name: str) -> tuple[str, ...]:
    return tuple(field for field, kind in catalog.default().latest(name).fields.items() if kind == "decimal")


def _record(value: bytes, name: str) -> dict[str, Any]:
    schema, record = framing.decode(value)
    if schema.name != name:
        raise Poison("undecodable", f"a {schema.name} where a {name} belongs")
    return record


def _window(record: dict[str, Any]) -> Window:
    period, start = Period(record["period_type"]), record["period_start"]
    subject = (record["org_id"], record["metric_key"], record["subject_type"], record["subject_id"])
    return Window(subject, period, start, end_of(CODES[period], start))


def _window_fields(window: Window) -> dict[str, Any]:
    org_id, metric_key, subject_type, subject_id = window.subject
    return {
        "org_id": org_id,
        "metric_key": metric_key,
        "subject_type": subject_type,
        "subject_id": subject_id,
        "period_type": window.period.value,
        "period_start": window.start,
        "period_end": None if window.end == NEVER else window.end,
    }


def _headers(event_type: str, event_id: str, now: int, window: Window) -> Headers:
    _, _, subject_type, subject_id = window.subject
    subject = cloudevents.subject_text(subject_type, subject_id)
    return cloudevents.headers(event_type, event_id, SOURCE, from_micros(now), subject)


def _state_key(target: Target) -> bytes:
    window = target.window
    return ids.state_key(target.threshold_id, *window.subject, window.period, window.start)


@lru_cache(maxsize=64)  # a state and its events name the same alerts
def _alert_id(target: Target, level: Level, number: int) -> str:
    window = target.window
    return ids.alert_id(target.threshold_id, *window.subject, window.period.value, window.start, level.value, number)
