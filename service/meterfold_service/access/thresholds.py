"""`thresholds` of Scoped."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from meterfold_service.access.errors import Forbidden
from meterfold_service.access.principal import Scope
from meterfold_service.access.room import Room
from meterfold_service.errors import ThresholdNotFound

if TYPE_CHECKING:
    from meterfold_schemas.definitions import UsageThreshold
    from meterfold_service.pages import Page
    from meterfold_service.thresholds.changes import ThresholdChange
    from meterfold_service.thresholds.operations import ListedThreshold
    from meterfold_sink.threshold_levels import JudgedWindow
    from meterfold_sink.thresholds import WatchedSubjects

__all__ = ["ScopedThresholds", "without_operator"]


class ScopedThresholds(Room):
    """As Thresholds. A principal of one organization changes its own, and sees those of every organization, which judge
    its subjects too: their windows and counts are those of its own subjects."""

    def create(self, *, metric_key: str, org_id: str | None = None, **values: Any) -> UsageThreshold:
        self._need(Scope.MANAGE)
        own = self._org(org_id)
        with self._without_hints():
            return self._metering.thresholds.create(metric_key=metric_key, org_id=own, **values)

    def update(self, threshold_id: str, **changes: Any) -> UsageThreshold:
        self._writable(threshold_id)
        return self._metering.thresholds.update(threshold_id, **changes)

    def delete(self, threshold_id: str) -> None:
        self._writable(threshold_id)
        self._metering.thresholds.delete(threshold_id)

    def preview_create(self, *, metric_key: str, org_id: str | None = None, **values: Any) -> ThresholdChange:
        self._need(Scope.MANAGE)
        own = self._org(org_id)
        with self._without_hints():
            return self._metering.thresholds.preview_create(metric_key=metric_key, org_id=own, **values)

    def preview_update(self, threshold_id: str, **changes: Any) -> ThresholdChange:
        self._writable(threshold_id)
        return self._metering.thresholds.preview_update(threshold_id, **changes)

    def preview_delete(self, threshold_id: str) -> ThresholdChange:
        self._writable(threshold_id)
        return self._metering.thresholds.preview_delete(threshold_id)

    def get(self, threshold_id: str) -> UsageThreshold:
        self._need(Scope.READ)
        found = self._metering.thresholds.get(threshold_id)
        if self._own is None:
            return found
        if found.org_id not in (None, self._own):
            raise ThresholdNotFound(threshold_id)
        return without_operator(found, self._own)

    def list(self, *, org_id: str | None = None, **values: Any) -> Page[ListedThreshold]:
        self._need(Scope.READ)
        own = self._own
        if own is None:
            return self._metering.thresholds.list(org_id=org_id, **values)
        if org_id is not None:
            org_id = self._org(org_id)
        page = self._metering.thresholds.list(org_id=org_id, seen_by=own, **values)
        return replace(
            page, rows=tuple(replace(row, threshold=without_operator(row.threshold, own)) for row in page.rows)
        )

    def nearest(self, *, limit: int = 10) -> tuple[JudgedWindow, ...]:
        self._need(Scope.READ)
        return self._metering.thresholds.nearest(limit=limit, seen_by=self._own)

    def of_subject(self, subject: tuple[str, str], *, org_id: str | None = None) -> tuple[JudgedWindow, ...]:
        """A principal of a subject gets its own."""
        self._need_for_subject(Scope.READ)
        whose = self._subject(subject) or subject
        return self._metering.thresholds.of_subject(whose, org_id=self._org(org_id) or "")

    def watched_subjects(self, threshold_id: str) -> WatchedSubjects:
        self.get(threshold_id)
        return self._metering.thresholds.watched_subjects(threshold_id, seen_by=self._own)

    def _writable(self, threshold_id: str) -> None:
        """Raises ThresholdNotFound for another organization's, and Forbidden for one of every organization."""
        self._need(Scope.MANAGE)
        if self._own is not None and self.get(threshold_id).org_id is None:
            raise Forbidden("this threshold is for every organization, and this token for one, which cannot change it")


def without_operator(threshold: UsageThreshold, org_id: str) -> UsageThreshold:
    """A threshold of every organization, without the addresses and notes of those who run the installation."""
    if threshold.org_id == org_id:
        return threshold
    return threshold.changed(notify_emails=(), notify_webhook=None, metadata=None)
