"""Prometheus metrics of a worker, read from its status when they are asked for: nothing is counted twice, per event
nothing happens, and no global registry is used."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.registry import Collector

from meterfold_processor.probes.families import gauge
from meterfold_processor.probes.vitals import Look, Vitals


class WorkerCollector(Collector):
    """What all workers have in common, then what this kind has."""

    def __init__(self, vitals: Vitals) -> None:
        self._vitals = vitals

    def collect(self) -> Iterator[Metric]:
        subject = self._vitals.subject
        yield from _common(subject.name, self._vitals.look())
        yield from subject.metrics()

    def describe(self) -> list[Metric]:
        """Nothing, so that registering does not collect."""
        return []


def registry(vitals: Vitals) -> CollectorRegistry:
    """A registry of this worker's own, with the usual process_ metrics where there is a /proc."""
    made = CollectorRegistry(support_collectors_without_names=True)
    made.register(WorkerCollector(vitals))
    ProcessCollector(registry=made)
    return made


def _common(kind: str, look: Look) -> Iterator[Metric]:
    places = look.observation.places
    membership = look.observation.membership
    yield gauge(f"{kind}_alive", "Whether /healthz is good.", look.verdict.alive)
    yield gauge(f"{kind}_ready", "Whether /readyz is good.", look.verdict.ready)
    yield gauge(
        f"{kind}_group_member", "Whether it is in its consumer group.", membership is not None and membership.member
    )
    yield gauge(f"{kind}_assigned_partitions", "Partitions that are its own.", len(places))
    yield gauge(
        f"{kind}_lag_messages",
        "Offsets of the log that are not done yet.",
        {partition: place.lag for partition, place in places.items() if place.lag is not None},
        "partition",
    )
    yield gauge(
        f"{kind}_next_offset",
        "The next offset to be done.",
        {partition: place.position for partition, place in places.items() if place.position is not None},
        "partition",
    )
    yield gauge(f"{kind}_standstill_seconds", "Time with lag and without movement.", look.still, "partition")
    yield gauge(
        f"{kind}_held_partitions",
        "Partitions that wait for an upgrade or an operator.",
        sum(place.held is not None for place in places.values()),
    )
    yield gauge(
        f"{kind}_errors",
        "1 for each activity that fails now and is tried again.",
        dict.fromkeys(look.observation.errors, 1.0),
        "activity",
    )
