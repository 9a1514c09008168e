"""A Meter with the real rules of the SDK and a broker that the test plays."""

from __future__ import annotations

from typing import Any

from meterfold import BufferFull, Delivery, DeliveryCounts, FlushTimeout, UndeliveredEvents
from meterfold_schemas.usage import UsageRecorded


class PlayedMeter:
    """Takes events by the rules of the contract. `broken_from`: the broker takes none from this event on; `full`: how
    often the buffer is full before it has room; `interrupted_at`: where somebody presses Ctrl-C."""

    def __init__(self, *, broken_from: int = 10**9, full: int = 0, interrupted_at: int = 10**9) -> None:
        self.events: list[UsageRecorded] = []
        self.closed = False
        self._broken_from = broken_from
        self._full = full
        self._interrupted_at = interrupted_at
        self._flushes = 0

    def record(self, metric_key: str, subject: tuple[str, str], quantity: Any = 1, **event: Any) -> str:
        if len(self.events) == self._interrupted_at:
            raise KeyboardInterrupt
        made = UsageRecorded.of(
            {
                "metric_key": metric_key,
                "subject_type": subject[0],
                "subject_id": subject[1],
                "quantity": quantity,
                **event,
            }
        )
        if self._full:
            self._full -= 1
            raise BufferFull("the buffer is full")
        self.events.append(made)
        return made.id

    trouble: str | None = None

    @property
    def counts(self) -> DeliveryCounts:
        failed = max(0, len(self.events) - self._broken_from)
        return DeliveryCounts(len(self.events), len(self.events) - failed, failed)

    def flush(self, timeout: float | None = None) -> None:
        self._flushes += 1
        if self._flushes == 1:
            raise FlushTimeout(1, timeout or 0)
        if failed := self.counts.failed:
            raise UndeliveredEvents(failed, (Delivery("e", None, None, "the cluster is gone"),))

    def close(self, timeout: float | None = None) -> None:
        self.closed = True
