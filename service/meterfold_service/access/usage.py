"""`usage` of Scoped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from meterfold_schemas.errors import InvalidUsage
from meterfold_service.access.principal import Scope
from meterfold_service.access.room import Room

if TYPE_CHECKING:
    from datetime import datetime

    from meterfold_service.exports.operations import ExportStream
    from meterfold_service.pages import Page
    from meterfold_service.usage.results import SubjectUsage, UsagePage, UsageSummary
    from meterfold_service.usage.summary_stream import SummaryStream
    from meterfold_sink.busiest import BusySubject
    from meterfold_sink.subjects import KnownSubject

__all__ = ["ScopedUsage"]

Subject = tuple[str, str]


class ScopedUsage(Room):
    """As Usage. A principal of a subject gets its own records and summaries."""

    def get(
        self, metric_key: str, subject: Subject | None = None, *, org_id: str | None = None, **values: Any
    ) -> UsagePage:
        self._need_for_subject(Scope.READ)
        whose, org = self._subject(subject), self._org(org_id) or ""
        if whose is None:
            raise InvalidUsage("records are those of one subject: give subject_type and subject_id")
        return self._metering.usage.get(metric_key, whose, org_id=org, **values)

    def get_summary(
        self,
        metric_key: str,
        *,
        org_id: str | None = None,
        every_org: bool = False,
        subject: Subject | None = None,
        **values: Any,
    ) -> Page[UsageSummary]:
        """`every_org`: all organizations, each in rows of its own, where the principal may see them."""
        self._need_for_subject(Scope.READ)
        whose = self._subject(subject)
        if every_org and org_id is not None:
            raise InvalidUsage("every_org conflicts with org_id; give one of them")
        org = self._own if every_org else self._org(org_id) or ""
        with self._without_hints():
            return self._metering.usage.get_summary(metric_key, org_id=org, subject=whose, **values)

    def stream_summary(self, metric_key: str, **values: Any) -> SummaryStream:
        """All rows of `get_summary`. Raises what that raises, and InvalidUsage where they are too many."""
        from meterfold_service.usage.summary_stream import SummaryStream

        return SummaryStream(lambda **page: self.get_summary(metric_key, **values, **page))

    def stream(self, what: str, *, org_id: str | None = None, **values: Any) -> ExportStream:
        self._need(Scope.READ)
        if what == "rejected" and self._own == "":
            self._need_everything(Scope.READ, "messages of an unknown organization are")
        return self._metering.usage.stream(what, org_id=self._org(org_id), **values)

    def subjects(self, text: str = "", *, org_id: str | None = None, limit: int = 50) -> Sequence[KnownSubject]:
        self._need(Scope.READ)
        return self._metering.usage.subjects(text, org_id=self._org(org_id), limit=limit)

    def metrics_of(
        self, subject: Subject, *, org_id: str | None = None, month: datetime | None = None
    ) -> Sequence[SubjectUsage]:
        self._need_for_subject(Scope.READ)
        whose = self._subject(subject) or subject
        return self._metering.usage.metrics_of(whose, org_id=self._org(org_id) or "", month=month)

    def busiest(self, *, limit: int = 10) -> tuple[BusySubject, ...]:
        self._need_everything(Scope.READ, "the busiest subjects are")
        return self._metering.usage.busiest(limit=limit)
