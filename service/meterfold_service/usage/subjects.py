"""Which subjects have usage, and of which metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from meterfold_schemas.errors import InvalidUsage
from meterfold_schemas.periods import Period, micros, period_start
from meterfold_service.pages import check_page
from meterfold_service.usage.results import SubjectUsage

if TYPE_CHECKING:
    from meterfold_sink.busiest import BusySubject
    from meterfold_sink.pool import ClientPool
    from meterfold_sink.subjects import KnownSubject

__all__ = ["Subjects", "busy_since", "checked_subject"]


class Subjects:
    """The part of Usage that is about subjects."""

    _clients: ClientPool
    _now: Callable[[], datetime]

    def busiest(self, *, limit: int = 10) -> tuple[BusySubject, ...]:
        """The subjects with the most events in this hour and the last one, in UTC, by the time of the usage. Raises
        InvalidUsage for a wrong limit."""
        from meterfold_sink.busiest import busiest_subjects

        check_page(limit)
        with self._clients.client() as client:
            return tuple(busiest_subjects(client, busy_since(self._now()), limit=limit))

    def subjects(self, text: str = "", *, org_id: str | None = None, limit: int = 50) -> Sequence[KnownSubject]:
        """Subjects with usage whose id or type contains `text`, those used last first. Raises InvalidUsage for a wrong
        limit."""
        from meterfold_sink.subjects import find_subjects

        check_page(limit)
        with self._clients.client() as client:
            return find_subjects(client, text, org_id=org_id, limit=limit)

    def metrics_of(
        self, subject: tuple[str, str], *, org_id: str = "", month: datetime | None = None
    ) -> Sequence[SubjectUsage]:
        """The metrics that one subject has used, the busiest first, each with its total of the month in UTC that holds
        `month` (default: now). Two statements, however many metrics there are."""
        from meterfold_schemas.definitions import MetricDefinition
        from meterfold_sink.definitions import visible_metrics
        from meterfold_sink.subjects import metrics_of_subject

        start = period_start(Period.MONTHLY, micros(self._now() if month is None else month))
        with self._clients.client() as client:
            used = metrics_of_subject(client, checked_subject(subject), org_id=org_id, month=start)
            rows = visible_metrics(client, [one.metric_key for one in used], org_id) if used else {}
        known = {key: MetricDefinition(**row) for key, row in rows.items()}
        return [
            SubjectUsage(
                metric_key=one.metric_key,
                metric=(metric := known.get(one.metric_key)),
                records=one.records,
                last_used=one.last_used,
                month_records=one.month_records,
                month_total=None if metric is None else one.month_total(metric.aggregation_type),
            )
            for one in used
        ]


def busy_since(now: datetime) -> datetime:
    """The start of the hours that `busiest` looks at."""
    return now.astimezone(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)


def checked_subject(subject: tuple[str, str]) -> tuple[str, str]:
    """The pair itself. Raises InvalidUsage for anything else."""
    match subject:
        case (str(), str()):
            return subject
    raise InvalidUsage(f"subject {subject!r:.80} must be a pair of strings: its type and its id")
