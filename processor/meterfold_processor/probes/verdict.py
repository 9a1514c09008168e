"""Whether a worker is alive and ready, and if not, why. Pure; progress decides.

alive   no partition has lag without progress for longer than the stall time, and the worker polls Kafka, because its
        lag is unknown otherwise. A partition that is held for an unknown schema is ignored: a restart would not help it
        and would disturb the others.
ready   alive, a member of its group, connected to Kafka, every assigned partition is loaded and none is held, and
        nothing is being retried. A worker without partitions is ready.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from meterfold_processor.fold.rejections import Rejection
from meterfold_processor.kafka.membership import MembershipState
from meterfold_processor.probes.progress import PartitionPosition, Standstill


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at a worker. `membership` is None until it has polled its group; `errors` are what is retried now, by
    activity; `rejections` are recent rejections, and `facts` what else is worth knowing, by name and as JSON: neither
    makes a worker unready."""

    places: Mapping[int, PartitionPosition]
    errors: Mapping[str, str]
    membership: MembershipState | None
    rejections: Sequence[Rejection] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The reasons against each; none if it is alive or ready."""

    against_alive: tuple[str, ...]
    against_ready: tuple[str, ...]

    @property
    def alive(self) -> bool:
        return not self.against_alive

    @property
    def ready(self) -> bool:
        return not self.against_ready


def judge(seen: Observation, standstill: Standstill, now: float, stall_seconds: float) -> Verdict:
    """`now` and the clock of `seen` and `standstill` are the same, in seconds."""
    stuck = tuple(_stuck(seen, standstill, now, stall_seconds))
    return Verdict(stuck, (*stuck, *_unready(seen)))


def _stuck(seen: Observation, standstill: Standstill, now: float, stall_seconds: float) -> Iterator[str]:
    for partition, place in sorted(seen.places.items()):
        still = standstill.seconds(partition, now)
        if place.held is None and place.lag != 0 and still >= stall_seconds:
            yield f"partition {partition} has made no progress for {still:.0f} s: {_where(place)}"
    if seen.membership is not None and now - seen.membership.at >= stall_seconds:
        yield f"the worker has not polled Kafka for {now - seen.membership.at:.0f} s"


def _unready(seen: Observation) -> Iterator[str]:
    membership = seen.membership
    if membership is None:
        yield "the worker is starting and has not joined its group yet"
    elif not membership.connected:
        yield "no Kafka broker can be reached"
    elif not membership.member:
        yield f"the worker is not in its group ({membership.state})"
    for partition, place in sorted(seen.places.items()):
        if place.held is not None:
            yield f"partition {partition} is held, {place.held}: {_where(place)}"
        elif place.position is None:
            yield f"partition {partition} is being loaded"
    for activity, error in sorted(seen.errors.items()):
        yield f"{activity} is failing and being retried: {error}"


def _where(place: PartitionPosition) -> str:
    position = "not loaded yet" if place.position is None else f"next offset {place.position}"
    return f"{position}, log end {'not known' if place.end is None else place.end}"
