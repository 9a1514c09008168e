"""The status of a checker, which other threads read at any time."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from meterfold_processor.backoff import Troubles
from meterfold_processor.durations import Durations
from meterfold_processor.kafka.membership import Membership

__all__ = ["CheckerStatus"]


@dataclass(slots=True)
class CheckerStatus:
    """Counters since the start of the process; seconds are of the monotonic clock."""

    consumed: int = 0
    """Window rows."""
    damaged: int = 0
    """Messages of usage.windows that were no window rows; the stored windows were judged instead."""
    poison_definitions: int = 0
    emitted: dict[str, int] = field(default_factory=dict)
    """Committed messages by topic, states and tombstones included."""
    transactions: int = 0
    aborts: int = 0
    """Steps whose transaction did not commit, or whose outcome stayed unknown: all was dropped and done again."""
    last_step: float | None = None
    step_seconds: float = 0.0
    """From the arrival of rows to their committed transaction, of the last step that had one."""
    durations: Durations = field(default_factory=Durations)
    """The same of all steps that had one."""
    assigned: list[int] = field(default_factory=list)
    """All that are ours."""
    partitions: list[int] = field(default_factory=list)
    """Those that are judged, without those that are being opened."""
    positions: dict[int, int] = field(default_factory=dict)
    """By judged partition the next offset to read."""
    waiting: int = 0
    """Windows in memory whose aggregate is yet to be emitted."""
    sweeps: dict[str, int] = field(default_factory=dict)
    """Ranges of stored windows that are yet to be read, by purpose (sweeps.Purpose)."""
    windows: int = 0
    """Windows in memory."""
    memory: int = 0
    """Bytes of those and of what waits."""
    mirrored: dict[str, int] = field(default_factory=dict)
    """Rows written to ClickHouse by table."""
    membership: Membership = field(default_factory=Membership)
    errors: Troubles = field(default_factory=Troubles)

    def seconds_since_step(self) -> float | None:
        return None if self.last_step is None else time.monotonic() - self.last_step
