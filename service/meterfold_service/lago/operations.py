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
from meterfold_sink.listed_events import metrics_used_by

if TYPE_CHECKING:
    from meterfold_schemas.definitions import MetricDefinition
    from meterfold_service.ingest.known_metrics import KnownMetrics
    from meterfold_service.ingest.operations import Events, Pending
    from meterfold_service.usage.operations import Usage
    from meterfold_sink.pool import ClientPool

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

    def __init__(
        self,
        clients: ClientPool,
        known: KnownMetrics,
        usage: Callable[[], Usage],
        events: Callable[[], Events],
        now: Callable[[], datetime],
    ) -> None:
        super().__init__(clients, known, events, now)
        self._usage = usage

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
            used = metrics_used_by(
                client, org_id=org_id, subject_type=SUBJECT_TYPE, subject_id=subscription, month=micros(start)
            )
        found = []
        for key in used:
            if key not in metrics:  # without a definition there is no total
                continue
            page = self._usage().get_summary(
                key, period="monthly", start=start, end=end, subject=(SUBJECT_TYPE, subscription), org_id=org_id
            )
            for row in page.rows:
                if row.total_quantity is not None:
                    found.append(MetricUsage(metrics[key], row.total_quantity, row.record_count))
        return CurrentUsage(start, end, found)
