"""Whether the partitions of a worker move: pure, with the clock passed in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """How far a worker is with one partition that is assigned to it.

    `position` is the next offset to be done, None while the partition's state is being loaded; `end` is where the log
    ends for a read_committed reader, None while unknown; `held` says why a partition is held.
    """

    position: int | None
    end: int | None
    held: str | None = None

    @property
    def lag(self) -> int | None:
        """Offsets that wait; None where that is not known."""
        if self.position is None or self.end is None:
            return None
        return max(0, self.end - self.position)


class Standstill:
    """Since when each partition has had lag without moving, by a clock that never steps back (seconds).

    Lag that is not known counts as lag: what cannot be loaded or fetched for long is stuck as well.
    """

    def __init__(self) -> None:
        self._since: dict[int, float] = {}
        self._furthest: dict[int, int] = {}
        self._idle: set[int] = set()

    def see(self, places: Mapping[int, Place], now: float) -> None:
        """Take in how it is now. Partitions that are not among `places` were given back, and begin anew."""
        for partition in self._since.keys() - places.keys():
            del self._since[partition]
            self._furthest.pop(partition, None)
            self._idle.discard(partition)
        for partition, place in places.items():
            if self._moves(partition, place) or partition not in self._since:
                self._since[partition] = now

    def seconds(self, partition: int, now: float) -> float:
        """How long a partition has stood still; 0 while it moves or has nothing to do."""
        return max(0.0, now - self._since.get(partition, now))

    def _moves(self, partition: int, place: Place) -> bool:
        """Only ground that is new counts: a partition that is dropped and loaded again and again does not move. Lag
        begins when it is seen first, however long ago the last look was."""
        was_idle = partition in self._idle
        if place.lag == 0:
            self._idle.add(partition)
        else:
            self._idle.discard(partition)
        if place.position is None:
            return was_idle
        before = self._furthest.get(partition)
        if before is None or place.position > before:
            self._furthest[partition] = place.position
            return True
        return was_idle or place.lag == 0
