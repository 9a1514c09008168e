"""Durations as a histogram, which other threads may read at any time."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the buckets, in seconds; one more bucket has what took longer."""


@dataclass(slots=True)
class Durations:
    """Counts per bucket (not cumulative) and the sum, in seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    total: float = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Pairs of upper bound and the count of everything up to it, the last one for +Inf: what Prometheus takes."""
        names = [*map(str, BOUNDS), "+Inf"]
        running, found = 0, []
        for name, count in zip(names, list(self.counts), strict=True):
            running += count
            found.append((name, float(running)))
        return found
