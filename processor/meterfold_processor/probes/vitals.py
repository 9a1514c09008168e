"""One worker over time: looks at its status now and again, remembers since when partitions stand still, and judges."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Lock
from typing import Any, Protocol

from prometheus_client import Metric

from meterfold_processor.probes.progress import Standstill
from meterfold_processor.probes.verdict import Observation, Verdict, judge


class Subject(Protocol):
    """A kind of worker, as seen through its status object."""

    @property
    def name(self) -> str: ...

    def observe(self) -> Observation: ...

    def metrics(self) -> Iterable[Metric]:
        """What only this kind has, read from the status object now."""


@dataclass(frozen=True, slots=True)
class Look:
    """`still`: seconds of standstill by partition."""

    observation: Observation
    verdict: Verdict
    still: dict[int, float]

    def partitions(self) -> list[dict[str, Any]]:
        """For people and programs that ask why."""
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
    """For several threads. `look` is to be called every second or so, asked for or not: it is what notices movement."""

    def __init__(self, subject: Subject, stall_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
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
