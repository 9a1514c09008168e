"""The progress of the partitions of a worker. Pure; the clock is passed in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PartitionPosition:
    """The position of a worker in one assigned partition.

    `position` is the next offset to process, None while the partition's state is being loaded; `end` is where the log
    ends for a read_committed reader, None while unknown; `held` says why a partition is held.
    """

    position: int | None
    end: int | None
    held: str | None = None

    @property
    def lag(self) -> int | None:
        """Offsets that are not processed yet; None if unknown."""
        if self.position is None or self.end is None:
            return None
        return max(0, self.end - self.position)


class Standstill:
    """How long each partition has had lag without progress, by a monotonic clock (seconds).

    Unknown lag counts as lag: a partition that cannot be loaded or fetched is stuck as well.
    """

    def __init__(self) -> None:
        self._since: dict[int, float] = {}
        self._furthest: dict[int, int] = {}
        self._idle: set[int] = set()

    def see(self, places: Mapping[int, PartitionPosition], now: float) -> None:
        """Add an observation. Partitions that are not among `places` were revoked and start again."""
        for partition in self._since.keys() - places.keys():
            del self._since[partition]
            self._furthest.pop(partition, None)
            self._idle.discard(partition)
        for partition, place in places.items():
            if self._moves(partition, place) or partition not in self._since:
                self._since[partition] = now

    def seconds(self, partition: int, now: float) -> float:
        """How long a partition has made no progress; 0 while it moves or has no lag."""
        return max(0.0, now - self._since.get(partition, now))

    def _moves(self, partition: int, place: PartitionPosition) -> bool:
        """Only a new furthest position counts: a partition that is repeatedly dropped and loaded makes no progress. Lag
        starts with the observation that shows it first."""
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
