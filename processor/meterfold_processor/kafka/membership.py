"""A consumer's place in its group and the ends of its partitions' logs, as librdkafka tells them every few seconds.

They come with its statistics, inside of the consumer's own `consume`: nothing is asked of a broker for them, and a
worker that does not poll any more shows by their age. (Reading the cached watermarks from another thread would do for
the ends, but not while the worker closes its consumer.)
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

INTERVAL_SECONDS = 2.0
_JOINED_AFTER = 3_000


@dataclass(frozen=True, slots=True)
class MembershipState:
    """`at` by the monotonic clock. `ends`: up to where a read_committed reader can read, where that is known."""

    at: float
    member: bool
    connected: bool
    state: str
    ends: Mapping[int, int]


class Membership:
    """`seen` is written by the thread that consumes and read by any; None until the consumer has polled for a while."""

    def __init__(self) -> None:
        self.seen: MembershipState | None = None

    def settings(self, topic: str) -> dict[str, Any]:
        """What the consumer of this topic is to be configured with."""

        def take(statistics: str) -> None:
            self.seen = read(statistics, topic, time.monotonic())

        return {"statistics.interval.ms": int(INTERVAL_SECONDS * 1000), "stats_cb": take}


class _Group(BaseModel):
    """`stateage` in milliseconds."""

    state: str = "init"
    stateage: int = 0
    join_state: str = "init"

    @property
    def joined(self) -> bool:
        """With the consumer protocol a member that was never given a partition stays in "init" for as long as it lives,
        heartbeats and all; whoever only passes through that state has not had its coordinator for this long."""
        if self.state != "up":
            return False
        return self.join_state == "steady" or (self.join_state == "init" and self.stateage >= _JOINED_AFTER)


class _Broker(BaseModel):
    state: str


class _Partition(BaseModel):
    partition: int
    ls_offset: int = -1


class _Topic(BaseModel):
    partitions: dict[str, _Partition]


class _Statistics(BaseModel):
    """What is used of librdkafka's statistics (its STATISTICS.md); the rest is left alone."""

    cgrp: _Group = _Group()
    brokers: dict[str, _Broker] = {}
    topics: dict[str, _Topic] = {}


def read(statistics: str, topic: str, now: float) -> MembershipState:
    """A member that was given no partition is one all the same. Without its coordinator it cannot know that it still is
    one, so it does not count as one."""
    found = _Statistics.model_validate(json.loads(statistics))
    partitions = found.topics[topic].partitions.values() if topic in found.topics else ()
    return MembershipState(
        at=now,
        member=found.cgrp.joined,
        connected=any(broker.state == "UP" for broker in found.brokers.values()),
        state=f"coordinator {found.cgrp.state}, member {found.cgrp.join_state}",
        # Unknown offsets are negative, and so is the number of a partition that means none.
        ends={entry.partition: entry.ls_offset for entry in partitions if entry.partition >= 0 <= entry.ls_offset},
    )


def log_ends(statistics: str, topics: Sequence[str]) -> dict[tuple[str, int], int]:
    """(topic, partition) -> up to where a read_committed reader can read, where that is known."""
    found = _Statistics.model_validate(json.loads(statistics))
    return {
        (topic, entry.partition): entry.ls_offset
        for topic in topics
        if topic in found.topics
        for entry in found.topics[topic].partitions.values()
        if entry.partition >= 0 <= entry.ls_offset
    }
