"""What became of a webhook endpoint: the event `endpoint.changed`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from meterfold_schemas import ids
from meterfold_schemas.periods import micros
from meterfold_schemas.wire import read_event, write_event

__all__ = ["EndpointChanged", "EndpointState"]

_SCHEMA = "endpoint_changed"


class EndpointState(StrEnum):
    """`failing`: its last tries have failed. `disabled`: nothing is sent to it any longer. `active`: it works again, or
    an operator has enabled it."""

    ACTIVE = "active"
    FAILING = "failing"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointChanged:
    """A webhook endpoint has another state. `since`: when the first of its failed tries began, also where it is active
    again; `failures`: failed tries in a row until now."""

    occurred_at: datetime
    endpoint: str
    state: EndpointState
    since: datetime
    failures: int
    reason: str

    @property
    def event_id(self) -> str:
        return ids.endpoint_changed_event_id(self.endpoint, self.state, micros(self.since))

    @property
    def key(self) -> bytes:
        """The message key: the endpoint."""
        return self.endpoint.encode()

    def to_bytes(self) -> bytes:
        return write_event(
            _SCHEMA,
            {
                "event_id": self.event_id,
                "occurred_at": self.occurred_at,
                "endpoint": self.endpoint,
                "state": self.state,
                "since": self.since,
                "failures": self.failures,
                "reason": self.reason,
            },
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises Poison or UnknownSchema."""
        return read_event(data, cls._built, _SCHEMA)

    @classmethod
    def _built(cls, _: str, values: dict[str, Any]) -> Self:
        del values["event_id"]
        values["state"] = EndpointState(values["state"])
        return cls(**values)
