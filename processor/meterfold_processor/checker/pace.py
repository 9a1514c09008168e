"""How much one step may do: as much as fits into a time, found by measuring."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Pace", "Rate", "Sizes"]


@dataclass(frozen=True, slots=True)
class Sizes:
    """The most that is done at once. `pieces` (stored windows) and `events` (aggregates) grow from `smallest` up to
    these, as long as they take little time; `transaction` in messages, so that none outlives the transaction timeout;
    `waiting`: windows whose values are in memory until they are emitted, of all partitions."""

    smallest: int = 500
    pieces: int = 65_536
    events: int = 16_384
    transaction: int = 20_000
    emitted: int = 20_000
    waiting: int = 500_000


class Pace:
    """A number of rows that takes about `seconds`."""

    def __init__(self, smallest: int, largest: int, seconds: float) -> None:
        self.rows = min(4 * smallest, largest)
        self._smallest = min(smallest, largest)
        self._largest = largest
        self._seconds = seconds

    def took(self, seconds: float) -> None:
        """A full step took this long."""
        if seconds > self._seconds:
            self.rows = max(self._smallest, self.rows // 2)
        elif seconds < self._seconds / 3:
            self.rows = min(self._largest, self.rows * 2)


class Rate:
    """At most `per_second` in any second (twice as many after a pause); seconds are monotonic."""

    def __init__(self, per_second: float, now: float) -> None:
        self._per_second = per_second
        self._left = max(1.0, per_second)
        self._at = now

    def allowed(self, now: float) -> int:
        if self._per_second == float("inf"):
            return 1 << 62
        self._left = min(max(1.0, self._per_second), self._left + (now - self._at) * self._per_second)
        self._at = now
        return int(self._left)

    def used(self, count: int) -> None:
        if self._per_second != float("inf"):
            self._left -= count
