"""What one worker has rejected lately, by reason and organization: for its log and for /readyz.

A producer that does everything wrong rejects as many messages as it sends. So the log has one line per reason and
organization and interval, with a count and one example; the rows of `usage_rejected` have the rest.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import polars as pl
import pyarrow as pa

from meterfold_schemas.plurals import plural

RECENT_SECONDS = 3600.0
LOG_SECONDS = 60.0
MOST = 100
"""Pairs of reason and organization that are kept apart: who may write to the topic may make any number of them."""

_SLICE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Rejection:
    """`count` messages of one organization (empty: none is known) with one reason; the position and the detail are
    those of the last one, which was rejected `seconds_ago`."""

    reason: str
    org_id: str
    count: int
    partition: int
    offset: int
    detail: str
    seconds_ago: float

    def text(self) -> str:
        whose = f"of organization {self.org_id!r}" if self.org_id else "without an organization"
        return (
            f"rejected {plural(self.count, 'message')} {whose} as {self.reason}, the last one at "
            f"partition {self.partition}, offset {self.offset}: {self.detail}"
        )


@dataclass(slots=True)
class _Entry:
    slices: deque[tuple[float, int]] = field(default_factory=deque)
    unreported: int = 0
    reported_at: float | None = None
    last: dict[str, Any] = field(default_factory=dict)
    last_at: float = 0.0


class Rejections:
    """For several threads. `clock` in seconds, never stepping back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._entries: dict[tuple[str, str], _Entry] = {}

    def add(self, rejected: pa.Table) -> None:
        """Take in rows of `usage_rejected`."""
        if rejected.num_rows == 0:
            return
        rows = pl.DataFrame(rejected.select(["reason", "org_id", "partition", "offset", "detail"]))
        last = pl.col("partition", "offset", "detail").last()
        groups = rows.group_by("reason", "org_id").agg(pl.len().alias("count"), last)
        now = self._clock()
        with self._lock:
            for row in groups.iter_rows(named=True):
                entry = self._entry(row["reason"], row["org_id"])
                if not entry.slices or now - entry.slices[-1][0] >= _SLICE_SECONDS:
                    entry.slices.append((now, 0))
                begun, count = entry.slices[-1]
                entry.slices[-1] = (begun, count + row["count"])
                entry.unreported += row["count"]
                entry.last, entry.last_at = row, now

    def recent(self) -> list[Rejection]:
        """Those of the last hour, most messages first."""
        with self._lock:
            now = self._clock()
            self._forget(now)
            found = [
                _rejection(entry, sum(count for _, count in entry.slices), now) for entry in self._entries.values()
            ]
        return sorted(found, key=lambda one: (-one.count, one.reason, one.org_id))

    def to_log(self) -> list[Rejection]:
        """What the log is to say now: each reason and organization at once when it is new, then once per interval."""
        with self._lock:
            now = self._clock()
            due = [
                entry
                for entry in self._entries.values()
                if entry.unreported and (entry.reported_at is None or now - entry.reported_at >= LOG_SECONDS)
            ]
            found = []
            for entry in due:
                found.append(_rejection(entry, entry.unreported, now))
                entry.unreported, entry.reported_at = 0, now
        return found

    def _entry(self, reason: str, org_id: str) -> _Entry:
        if (reason, org_id) not in self._entries and len(self._entries) >= MOST:
            del self._entries[min(self._entries, key=lambda key: self._entries[key].last_at)]
        return self._entries.setdefault((reason, org_id), _Entry())

    def _forget(self, now: float) -> None:
        for key, entry in list(self._entries.items()):
            while entry.slices and now - entry.slices[0][0] >= RECENT_SECONDS:
                entry.slices.popleft()
            if not entry.slices:
                del self._entries[key]


def _rejection(entry: _Entry, count: int, now: float) -> Rejection:
    last = entry.last
    return Rejection(
        last["reason"],
        last["org_id"],
        count,
        last["partition"],
        last["offset"],
        last["detail"],
        round(now - entry.last_at, 1),
    )
