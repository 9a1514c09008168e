"""Time as an argument: the checker reads no clock except this one."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks: the wall clock, and one that never steps back."""

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
