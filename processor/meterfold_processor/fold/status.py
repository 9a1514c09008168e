"""What a fold worker can say about itself at any time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from meterfold_processor.backoff import Troubles
from meterfold_processor.durations import Durations
from meterfold_processor.fold.rejections import Rejections
from meterfold_processor.kafka.membership import Membership


@dataclass(slots=True)
class Stages:
    """CPU seconds that the worker's own thread has spent in each stage (polars' threads not counted)."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def spent(self, stage: str) -> Iterator[None]:
        begun = time.thread_time()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.thread_time() - begun


@dataclass(slots=True)
class FoldStatus:
    """Counters since the start of the worker; seconds are of the monotonic clock."""

    consumed: int = 0
    counted: int = 0
    duplicates: int = 0
    rejected: int = 0
    flushes: int = 0
    last_flush: float | None = None
    stages: Stages = field(default_factory=Stages)
    step_seconds: dict[str, float] = field(default_factory=dict)
    partitions: list[int] = field(default_factory=list)
    holds: dict[int, str] = field(default_factory=dict)
    errors: Troubles = field(default_factory=Troubles)
    memory: dict[str, int] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    """Rejected messages by reason."""
    rejections: Rejections = field(default_factory=Rejections)
    durations: dict[str, Durations] = field(default_factory=dict)
    """How long the steps of all flushes took."""
    readable: Durations = field(default_factory=Durations)
    """From the broker's stamp of the newest event of a flush until it can be read in ClickHouse."""
    recorded: Durations = field(default_factory=Durations)
    """The same from the event's own timestamp, without events that were back-filled."""
    positions: dict[int, int] = field(default_factory=dict)
    """By loaded partition the next offset to flush."""
    stamps: dict[int, int] = field(default_factory=dict)
    """By loaded partition the broker's stamp (UTC microseconds) of the newest event that is flushed; none before the
    first."""
    log_ends: dict[int, tuple[int, int]] = field(default_factory=dict)
    """By partition the newest end that was reached, and the position from which on everything before it is flushed:
    transaction markers at the end of a log are behind every position there can be."""
    membership: Membership = field(default_factory=Membership)
    backup: tuple[float, float] | None = None
    """Of the newest complete backup: when it was started, and until when Kafka can repair it; both in UTC seconds."""

    def seconds_since_flush(self) -> float | None:
        return None if self.last_flush is None else time.monotonic() - self.last_flush
