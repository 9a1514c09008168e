"""`metering.lago`: Lago's events and current usage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from meterfold_schemas.errors import InvalidUsage
from meterfold_schemas.periods import micros
from meterfold_service.ingest.door import Door
from meterfold_service.lago.events import SUBJECT_TYPE, month_of, usage_of
from meterfold_service.pages import MAX_LIMIT
from meterfold_sink.subjects import metrics_of_subject

if TYPE_CHECKING:
    from meterfold_schemas.definitions import MetricDefinition
    from meterfold_service.ingest.operations import Pending

__all__ = ["CurrentUsage", "Lago", "LagoIngested", "MetricUsage"]


@dataclass(frozen=True, slots=True)
class LagoIngested:
    """`refused`: place of an event in the request -> why it was not taken."""

    pending: Pending
    refused: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class MetricUsage:
    """What a subscription has used of one metric."""

    metric: MetricDefinition
    units: Decimal
    events: int


@dataclass(frozen=True, slots=True)
class CurrentUsage:
    """The usage of this calendar month in UTC, [start, end)."""

    start: datetime
    end: datetime
    metrics: Sequence[MetricUsage]


class Lago(Door):
    """For any thread. `org_id` is the organization of the caller; "": none."""

    def begin(self, documents: Sequence[Any], org_id: str, on_end: Callable[[], None]) -> LagoIngested:
        """Take events, as Events.begin does. A bad one does not affect the others."""
        metrics = self._known.of(org_id)
        usage, places = [], []
        refused: dict[int, str] = {}
        for place, document in enumerate(documents):
            try:
                usage.append(usage_of(document, metrics))
            except InvalidUsage as error:
                refused[place] = str(error)
            else:
                places.append(place)
        pending = self._events().begin(usage, org_id, on_end)
        refused |= {places[row]: refusal.detail for row, refusal in pending.batch.refused.items()}
        return LagoIngested(pending, refused)

    def current_usage(self, subscription: str, org_id: str) -> CurrentUsage:
        """What a subscription has used this month, of each metric that it has used."""
        start, end = month_of(self._now())
        metrics = self._known.of(org_id)
        with self._clients.client() as client:
            used = metrics_of_subject(
                client, (SUBJECT_TYPE, subscription), org_id=org_id, month=micros(start), limit=MAX_LIMIT
            )
        found = []
        for one in sorted(used, key=lambda one: one.metric_key):
            metric = metrics.get(one.metric_key)  # without a definition there is no total
            total = None if metric is None else one.month_total(metric.aggregation_type)
            if metric is not None and total is not None:
                found.append(MetricUsage(metric, total, one.month_records))
        return CurrentUsage(start, end, found)
