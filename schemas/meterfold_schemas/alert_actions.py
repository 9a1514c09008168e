"""What people did with alerts: the event `alert.acted`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from meterfold_schemas import ids
from meterfold_schemas.usage_rules import text_bytes
from meterfold_schemas.vocabulary import AlertAction
from meterfold_schemas.wire import read_event, write_event

__all__ = ["AlertActed"]

_SCHEMA = "alert_acted"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertActed:
    """Somebody acknowledged or resolved an alert. Of several with one alert and action, the one with the smallest
    offset is valid. Raises InvalidUsage for a name that is empty or longer than 512 bytes."""

    occurred_at: datetime
    alert_id: str
    action: AlertAction
    by: str

    def __post_init__(self) -> None:
        text_bytes("alert_id", self.alert_id)
        text_bytes("by", self.by)

    @property
    def event_id(self) -> str:
        return ids.alert_acted_event_id(self.alert_id, self.action, self.by)

    @property
    def key(self) -> bytes:
        """The message key: the alert."""
        return self.alert_id.encode()

    def to_bytes(self) -> bytes:
        return write_event(
            _SCHEMA,
            {
                "event_id": self.event_id,
                "occurred_at": self.occurred_at,
                "alert_id": self.alert_id,
                "action": self.action,
                "by": self.by,
            },
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises Poison or UnknownSchema."""
        return read_event(data, cls._built, _SCHEMA)

    @classmethod
    def _built(cls, _: str, values: dict[str, Any]) -> Self:
        del values["event_id"]
        values["action"] = AlertAction(values["action"])
        return cls(**values)
