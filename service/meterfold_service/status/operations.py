"""`metering.status`: how an installation is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import TYPE_CHECKING

from meterfold_schemas.periods import from_micros
from meterfold_sink.fold_state import read_progress

if TYPE_CHECKING:
    from meterfold_service.status.look import Inspector
    from meterfold_service.status.report import StatusReport
    from meterfold_sink.pool import ClientPool

__all__ = ["FoldTotals", "Status"]


@dataclass(frozen=True, slots=True)
class FoldTotals:
    """What the fold of all partitions has stored, at `at`.

    `read` offsets were read since the fold began: each is a counted event, a duplicate, a rejected message, or `empty`
    (a marker of a transaction, or a message that had expired). `last_stamp` is when the last event that was read
    arrived, None before the first one.
    """

    at: datetime
    partitions: int
    read: int
    counted: int
    duplicates: int
    rejected: int
    last_stamp: datetime | None
    flushed_at: datetime | None

    @property
    def events(self) -> int:
        return self.counted + self.duplicates + self.rejected

    @property
    def empty(self) -> int:
        return self.read - self.events


class Status:
    """For any thread. Every operation raises Retryable or Fatal."""

    def __init__(
        self, clients: ClientPool, make_inspector: Callable[[], Inspector], now: Callable[[], datetime]
    ) -> None:
        self._clients = clients
        self._make_inspector = make_inspector
        self._now = now
        self._lock = Lock()
        self._inspector: Inspector | None = None

    def look(self) -> StatusReport:
        """Both servers, every partition, and what is wrong. Takes up to about 10 s where a server does not answer; an
        error of a server is part of the answer. One look at a time."""
        with self._lock:
            if self._inspector is None:
                self._inspector = self._make_inspector()
            return self._inspector.look()

    def totals(self) -> FoldTotals:
        """What the fold has stored: one small query."""
        with self._clients.client() as client:
            rows = read_progress(client).values()
        stamp = max((row.last_stamp for row in rows), default=0)
        flushed = max((row.flushed_at for row in rows), default=0)
        return FoldTotals(
            at=self._now(),
            partitions=len(rows),
            read=sum(row.next_offset - row.log_start for row in rows),
            counted=sum(row.counted for row in rows),
            duplicates=sum(row.duplicates for row in rows),
            rejected=sum(row.rejected for row in rows),
            last_stamp=from_micros(stamp) if stamp else None,
            flushed_at=from_micros(flushed) if flushed else None,
        )

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            if self._inspector is not None:
                self._inspector.close()
                self._inspector = None
