"""The events that Meterfold derives: the state of a window, alerts, and what was judged.

Frozen values with aware datetimes and Decimals. Their ids are computed from their fields, so a repeat is the same
event. `period_end` is None for a lifetime.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Literal, Self, get_args

from meterfold_schemas import ids
from meterfold_schemas.errors import InvalidEvent, shown
from meterfold_schemas.periods import Period, micros
from meterfold_schemas.vocabulary import Action, Level
from meterfold_schemas.wire import read_event, write_event

__all__ = ["AlertType", "ThresholdEvent", "ThresholdState", "UsageAggregated"]

AlertType = Literal["threshold.approaching", "threshold.exceeded", "threshold.cleared"]

_ALERT_SCHEMAS: Final = {kind.replace(".", "_"): kind for kind in get_args(AlertType)}


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageAggregated:
    """One revision of one window on `usage.aggregated`; `revision` is the window's folded_through."""

    occurred_at: datetime
    org_id: str
    metric_key: str
    subject_type: str
    subject_id: str
    period_type: Period
    period_start: datetime
    period_end: datetime | None
    partition: int
    total_quantity: Decimal
    record_count: int
    sum: Decimal
    min: Decimal
    max: Decimal
    last: Decimal
    revision: int
    is_final: bool
    previous_total: Decimal | None = None

    @property
    def event_id(self) -> str:
        return ids.aggregated_event_id(*_window(self), self.revision, self.is_final)

    @property
    def key(self) -> bytes:
        """The message key: the window's identity."""
        return ids.window_key(*_window(self))

    def to_bytes(self) -> bytes:
        return write_event("usage_aggregated", {"event_id": self.event_id, **_values(self)})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises Poison or UnknownSchema."""
        return read_event(data, cls._built, "usage_aggregated")

    @classmethod
    def _built(cls, _: str, values: dict[str, Any]) -> Self:
        del values["event_id"]
        values["period_type"] = Period(values["period_type"])
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdEvent:
    """A level that was reached (approaching, exceeded), or a reached level that no longer holds (cleared)."""

    event_type: AlertType
    occurred_at: datetime
    threshold_id: str
    org_id: str
    metric_key: str
    subject_type: str
    subject_id: str
    period_type: Period
    period_start: datetime
    period_end: datetime | None
    level: Level
    crossing: int
    threshold: Decimal
    warn_threshold: Decimal
    actual_value: Decimal
    percentage_used: Decimal
    action: Action

    def __post_init__(self) -> None:
        if self.event_type not in _ALERT_SCHEMAS.values():
            raise InvalidEvent(
                f"event_type {shown(self.event_type)} must be one of {', '.join(_ALERT_SCHEMAS.values())}"
            )
        if self.level is Level.NONE or (
            self.event_type != "threshold.cleared" and self.event_type != f"threshold.{self.level}"
        ):
            raise InvalidEvent(f"a {self.event_type} event cannot have the level {self.level}")

    @property
    def alert_id(self) -> str:
        return ids.alert_id(self.threshold_id, *_window(self), self.level, self.crossing)

    @property
    def event_id(self) -> str:
        return ids.alert_event_id(self.alert_id, self.event_type)

    def to_bytes(self) -> bytes:
        values = _values(self)
        name = values.pop("event_type").replace(".", "_")
        return write_event(name, {"event_id": self.event_id, "alert_id": self.alert_id, **values})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises Poison or UnknownSchema."""
        return read_event(data, cls._built, *_ALERT_SCHEMAS)

    @classmethod
    def _built(cls, name: str, values: dict[str, Any]) -> Self:
        del values["event_id"], values["alert_id"]
        values["period_type"] = Period(values["period_type"])
        values["level"] = Level(values["level"])
        values["action"] = Action(values["action"])
        return cls(event_type=_ALERT_SCHEMAS[name], **values)


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdState:
    """What was judged last for a threshold, a subject and a window: `threshold.state`, also read by quota gates.

    `metric_position` and `threshold_position` are the read positions (next offsets) of the definition topics.
    """

    threshold_id: str
    name: str
    org_id: str
    metric_key: str
    subject_type: str
    subject_id: str
    period_type: Period
    period_start: datetime
    period_end: datetime | None
    level: Level
    action: Action
    crossing_approaching: int
    crossing_exceeded: int
    folded_through: int
    metric_position: int
    threshold_position: int
    value: Decimal
    threshold: Decimal
    warn_threshold: Decimal
    approaching_alert_id: str | None = None
    exceeded_alert_id: str | None = None
    occurred_at: datetime

    @property
    def key(self) -> bytes:
        """The message key: a threshold and a window."""
        return ids.state_key(self.threshold_id, *_window(self))

    def to_bytes(self) -> bytes:
        return write_event("threshold_state", _values(self))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises Poison or UnknownSchema."""
        return read_event(data, cls._built, "threshold_state")

    @classmethod
    def _built(cls, _: str, values: dict[str, Any]) -> Self:
        values["period_type"] = Period(values["period_type"])
        values["level"] = Level(values["level"])
        values["action"] = Action(values["action"])
        return cls(**values)


def _window(event: UsageAggregated | ThresholdEvent | ThresholdState) -> tuple[str, str, str, str, str, int]:
    return (
        event.org_id,
        event.metric_key,
        event.subject_type,
        event.subject_id,
        str(event.period_type),
        micros(event.period_start),
    )


def _values(event: UsageAggregated | ThresholdEvent | ThresholdState) -> dict[str, Any]:
    return {field.name: getattr(event, field.name) for field in fields(event)}
