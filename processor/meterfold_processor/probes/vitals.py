"""One worker over time: observes its status periodically and measures how long partitions make no progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Lock
from typing import Any, Protocol

from prometheus_client import Metric

from meterfold_processor.probes.progress import Standstill
from meterfold_processor.probes.verdict import Observation, Verdict, judge


class WorkerKind(Protocol):
    """A kind of worker, observed through its status object."""

    @property
    def name(self) -> str: ...

    @property
    def partitioned(self) -> bool:
        """Whether it processes partitions as a member of a group."""

    def observe(self) -> Observation: ...

    def metrics(self) -> Iterable[Metric]:
        """The metrics of this kind, read from the status object."""


@dataclass(frozen=True, slots=True)
class Look:
    """`still`: seconds without progress by partition."""

    observation: Observation
    verdict: Verdict
    still: dict[int, float]

    def partitions(self) -> list[dict[str, Any]]:
        """The partitions as JSON values."""
        return [
            {
                "partition": partition,
                "next_offset": place.position,
                "log_end": place.end,
                "lag": place.lag,
                "still_seconds": round(self.still[partition], 1),
                "held": place.held,
            }
            for partition, place in sorted(self.observation.places.items())
        ]


class Vitals:
    """Thread-safe. Call `look` about every second, also without requests, because it notices progress."""

    def __init__(self, subject: WorkerKind, stall_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.subject = subject
        self._stall_seconds = stall_seconds
        self._clock = clock
        self._standstill = Standstill()
        self._lock = Lock()

    def look(self) -> Look:
        with self._lock:
            observation, now = self.subject.observe(), self._clock()
            self._standstill.see(observation.places, now)
            return Look(
                observation,
                judge(observation, self._standstill, now, self._stall_seconds),
                {partition: self._standstill.seconds(partition, now) for partition in observation.places},
            )
