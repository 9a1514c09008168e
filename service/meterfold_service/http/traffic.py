"""What the server has answered, for the metrics: other threads read it at any time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from time import monotonic

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

from meterfold_processor.backoff import Troubles
from meterfold_processor.durations import Durations
from meterfold_processor.kafka.membership import MembershipState
from meterfold_processor.probes.families import PREFIX, gauge
from meterfold_processor.probes.verdict import Observation

__all__ = ["ServerSubject", "Traffic"]


@dataclass(slots=True)
class Traffic:
    """Counters since the start of the process. A route is a method and a path with names in braces."""

    answered: dict[tuple[str, str, str], int] = field(default_factory=dict)
    """(method, route, status) -> requests."""
    durations: dict[tuple[str, str], Durations] = field(default_factory=dict)
    """(method, route) -> seconds until the answer was sent."""
    open: int = 0
    """Requests that are being answered."""
    limits: int = 0
    """States of thresholds in memory."""
    errors: Troubles = field(default_factory=Troubles)
    """What does not answer now: clickhouse, limits."""

    def add(self, method: str, route: str, status: int, seconds: float) -> None:
        labels = (method, route, str(status))
        self.answered[labels] = self.answered.get(labels, 0) + 1
        self.durations.setdefault((method, route), Durations()).observe(seconds)


class ServerSubject:
    """The probes of a server, which is no member of a group."""

    name = "serve"
    partitioned = False

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic

    def observe(self) -> Observation:
        return Observation({}, dict(self._traffic.errors), MembershipState(monotonic(), True, True, "", {}))

    def metrics(self) -> Iterator[Metric]:
        traffic = self._traffic
        requests = CounterMetricFamily(
            f"{PREFIX}http_requests", "Requests by route and status.", labels=("method", "route", "status")
        )
        for labels, count in list(traffic.answered.items()):
            requests.add_metric(labels, count)
        yield requests
        durations = HistogramMetricFamily(
            f"{PREFIX}http_request_seconds", "Time until a request was answered.", labels=("method", "route")
        )
        for route, found in list(traffic.durations.items()):
            durations.add_metric(route, found.buckets(), found.total)
        yield durations
        yield gauge("http_open_requests", "Requests that are being answered.", traffic.open)
        yield gauge("http_limits_in_memory", "States of thresholds that /v1/limits answers from.", traffic.limits)
