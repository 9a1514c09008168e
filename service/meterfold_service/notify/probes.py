"""The probes of a notifier. Reads NotifyStatus only; counters start with the process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily

from meterfold_processor.probes.families import PREFIX, counter, gauge, histogram
from meterfold_processor.probes.progress import PartitionPosition
from meterfold_processor.probes.verdict import Observation
from meterfold_service.notify.status import NotifyStatus

__all__ = ["NotifySubject"]

Place = tuple[str, int]


class NotifySubject:
    """Partition numbers are those of all topics together: positions and ends are sums over the topics."""

    name = "notify"
    partitioned = True

    def __init__(self, status: NotifyStatus) -> None:
        self._status = status

    def observe(self) -> Observation:
        status = self._status
        places = _by_partition(status.positions, status.ends)
        places |= {partition: PartitionPosition(None, None) for _, partition in status.opening}
        return Observation(places, dict(status.errors), status.membership.seen, facts=_facts(status))

    def metrics(self) -> Iterator[Metric]:
        status = self._status
        yield counter("notify_planned_deliveries", "Deliveries of events that were read.", status.planned)
        yield counter("notify_damaged_messages", "Messages that could not be read.", status.damaged)
        tries = CounterMetricFamily(
            f"{PREFIX}notify_tries", "Tries, by the state of the delivery afterwards.", labels=("channel", "state")
        )
        for labels, count in dict(status.tries).items():
            tries.add_metric(labels, count)
        yield tries
        yield histogram("notify_try_seconds", "Duration of a try.", status.durations)
        yield gauge("notify_sending_deliveries", "Deliveries that are being sent.", status.sending)
        waiting, now = dict(status.waiting), datetime.now(UTC)
        yield gauge(
            "notify_waiting_deliveries",
            "Deliveries with a try to come.",
            {channel: count for channel, (count, _) in waiting.items()},
            "channel",
        )
        yield gauge(
            "notify_oldest_waiting_seconds",
            "Age of the oldest event that has not been delivered and is still tried.",
            {channel: max(0.0, (now - oldest).total_seconds()) for channel, (_, oldest) in waiting.items()},
            "channel",
        )
        yield gauge("notify_endpoints", "Webhook endpoints that fail or are disabled.", _endpoints(status), "state")


def _facts(status: NotifyStatus) -> dict[str, Any]:
    """What waits, and for how long: an endpoint that fails is no reason to restart a notifier."""
    now = datetime.now(UTC)
    return {
        "deliveries": {
            channel: {"waiting": count, "oldest_seconds": round(max(0.0, (now - oldest).total_seconds()), 1)}
            for channel, (count, oldest) in dict(status.waiting).items()
        },
        "endpoints": _endpoints(status),
    }


def _endpoints(status: NotifyStatus) -> dict[str, int]:
    """failing and disabled -> how many webhook endpoints are."""
    return {"failing": 0, "disabled": 0} | dict(status.endpoints)


def _by_partition(positions: Mapping[Place, int], ends: Mapping[Place, int]) -> dict[int, PartitionPosition]:
    found: dict[int, PartitionPosition] = {}
    for (topic, partition), position in positions.items():
        known = ends.get((topic, partition))
        # An end that was reached can be newer than the one that the statistics tell.
        end = None if known is None else max(known, position)
        before = found.get(partition, PartitionPosition(0, 0))
        assert before.position is not None
        total = None if end is None or before.end is None else before.end + end
        found[partition] = PartitionPosition(before.position + position, total)
    return found
