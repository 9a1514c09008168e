"""Prometheus metrics of a worker, computed from its status for each request: no work per event, and no global
registry."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.registry import Collector

from meterfold_processor.probes.families import gauge
from meterfold_processor.probes.vitals import Look, Vitals


class WorkerCollector(Collector):
    """The metrics of all workers, then those of this kind."""

    def __init__(self, vitals: Vitals) -> None:
        self._vitals = vitals

    def collect(self) -> Iterator[Metric]:
        subject = self._vitals.subject
        look = self._vitals.look()
        yield from _common(subject.name, look)
        if subject.partitioned:
            yield from _of_partitions(subject.name, look)
        yield from subject.metrics()

    def describe(self) -> list[Metric]:
        """Nothing, so that registering does not collect."""
        return []


def registry(vitals: Vitals) -> CollectorRegistry:
    """The registry of this worker, with the usual process_ metrics if /proc exists."""
    made = CollectorRegistry(support_collectors_without_names=True)
    made.register(WorkerCollector(vitals))
    ProcessCollector(registry=made)
    return made


def _common(kind: str, look: Look) -> Iterator[Metric]:
    yield gauge(f"{kind}_alive", "1 if /healthz answers 200.", look.verdict.alive)
    yield gauge(f"{kind}_ready", "1 if /readyz answers 200.", look.verdict.ready)
    yield gauge(
        f"{kind}_errors",
        "1 for each activity that is failing and being retried.",
        dict.fromkeys(look.observation.errors, 1.0),
        "activity",
    )


def _of_partitions(kind: str, look: Look) -> Iterator[Metric]:
    places = look.observation.places
    membership = look.observation.membership
    yield gauge(
        f"{kind}_group_member", "1 if it is a member of its group.", membership is not None and membership.member
    )
    yield gauge(f"{kind}_assigned_partitions", "Partitions that are assigned to it.", len(places))
    yield gauge(
        f"{kind}_lag_messages",
        "Offsets of the log that are not processed yet.",
        {partition: place.lag for partition, place in places.items() if place.lag is not None},
        "partition",
    )
    yield gauge(
        f"{kind}_next_offset",
        "The next offset to process.",
        {partition: place.position for partition, place in places.items() if place.position is not None},
        "partition",
    )
    yield gauge(f"{kind}_standstill_seconds", "Time with lag and without progress.", look.still, "partition")
    yield gauge(
        f"{kind}_held_partitions",
        "Partitions that wait for an upgrade or an operator.",
        sum(place.held is not None for place in places.values()),
    )
