"""What the broker reported about recorded events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from meterfold_schemas.errors import DeliveryFailed, Retryable

__all__ = ["Delivery", "DeliveryCallback", "DeliveryCounts", "FlushTimeout", "UndeliveredEvents"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """The final report of one event: `error` is None once the broker has it, on disk as `acks=all` means it.

    After an error the outcome is unknown. Record the event again with the same id and timestamp: it counts once.
    """

    event_id: str
    partition: int | None
    offset: int | None
    error: str | None = None

    @property
    def delivered(self) -> bool:
        return self.error is None


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


class UndeliveredEvents(DeliveryFailed):
    """Events whose delivery failed for good since the last flush: `failed` of them, the first ones in `failures`."""

    def __init__(self, failed: int, failures: tuple[Delivery, ...]) -> None:
        first = failures[0]
        super().__init__(
            f"{failed} recorded {'event was' if failed == 1 else 'events were'} not delivered; the first is "
            f"{first.event_id}: {first.error}. Record them again with the same ids: one that did arrive counts once"
        )
        self.failed = failed
        self.failures = failures

    def __reduce__(self) -> tuple[type[UndeliveredEvents], tuple[int, tuple[Delivery, ...]]]:
        return type(self), (self.failed, self.failures)


class FlushTimeout(Retryable):
    """`outstanding` events had no report when the time was up. They stay in the buffer and are still being sent.

    `trouble` is what keeps the client from delivering, as far as it is known.
    """

    code = "FLUSH_TIMEOUT"

    def __init__(self, outstanding: int, seconds: float, trouble: str | None = None) -> None:
        super().__init__(
            f"{outstanding} {'event has' if outstanding == 1 else 'events have'} no report from the broker after "
            f"{seconds:g} s and will still be sent" + (f"; the last trouble was: {trouble}" if trouble else "")
        )
        self.outstanding = outstanding
        self.seconds = seconds
        self.trouble = trouble

    def __reduce__(self) -> tuple[type[FlushTimeout], tuple[int, float, str | None]]:
        return type(self), (self.outstanding, self.seconds, self.trouble)


#: Called once per event from the SDK's own thread (or from flush and close): keep it short, never raise.
DeliveryCallback = Callable[[Delivery], None]
