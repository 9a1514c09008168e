"""Time as an argument: the checker never reads a clock by itself."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks: one that tells the time, one that never steps back."""

    def wall(self) -> int:
        """UTC microseconds."""

    def monotonic(self) -> float:
        """Seconds since some moment; only differences mean something."""


class SystemClock:
    """The clocks of this machine."""

    def wall(self) -> int:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return time.monotonic()
