"""What the broker reported about recorded events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from meterfold.events import UsageEvent, event_of

__all__ = ["Delivery", "DeliveryCallback", "DeliveryCounts", "ReportCallback"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """The final report of one event: `error` is None once the broker has it, on disk as `acks=all` means it.

    After an error the outcome is unknown. Record `event` again: its id and timestamp are the same, so it counts once.
    """

    event_id: str
    partition: int | None
    offset: int | None
    error: str | None = None
    #: The encoded event; None once it is delivered.
    value: bytes | None = field(default=None, repr=False, compare=False)

    @property
    def delivered(self) -> bool:
        return self.error is None

    @property
    def event(self) -> UsageEvent | None:
        """The event, as `record_batch` takes it, if it was not delivered."""
        return None if self.value is None else event_of(self.value)


@dataclass(frozen=True, slots=True)
class DeliveryCounts:
    """Events since the Meter was made (in this process). recorded = delivered + failed + outstanding."""

    recorded: int
    delivered: int
    failed: int

    @property
    def outstanding(self) -> int:
        """In the buffer or on their way."""
        return self.recorded - self.delivered - self.failed


#: Called once per event from the SDK's own thread (or from flush and close): keep it short, never raise.
DeliveryCallback = Callable[[Delivery], None]
#: Called with the report of one event, in the same threads. True: the caller raises a failure, so a flush does not.
ReportCallback = Callable[[Delivery], bool]
