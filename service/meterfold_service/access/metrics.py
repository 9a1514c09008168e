"""`metrics` of Scoped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from meterfold_service.access.errors import Forbidden
from meterfold_service.access.principal import Scope
from meterfold_service.access.room import Room

if TYPE_CHECKING:
    from meterfold_schemas.definitions import MetricDefinition
    from meterfold_service.metrics.changes import MetricChange
    from meterfold_service.metrics.operations import MetricPage

__all__ = ["ScopedMetrics"]


class ScopedMetrics(Room):
    """As Metrics. A principal of one organization changes its own definitions, and sees those of every organization
    too."""

    def define(self, *, org_id: str | None = None, **values: Any) -> MetricDefinition:
        own = self._writable(org_id)
        with self._without_hints():
            return self._metering.metrics.define(**values, org_id=own)

    def update(self, key: str, org_id: str | None = None, **changes: Any) -> MetricDefinition:
        own = self._writable(org_id)
        with self._without_hints():
            return self._metering.metrics.update(key, own, **changes)

    def delete(self, key: str, org_id: str | None = None) -> None:
        own = self._writable(org_id)
        with self._without_hints():
            self._metering.metrics.delete(key, own)

    def get(self, key: str, org_id: str | None = None) -> MetricDefinition:
        self._need(Scope.READ)
        own = self._org(org_id) or ""
        with self._without_hints():
            return self._metering.metrics.get(key, own)

    def list(self, *, org_id: str | None = None, **values: Any) -> MetricPage:
        self._need(Scope.READ)
        if self._own is None:
            return self._metering.metrics.list(org_id=org_id, **values)
        if org_id not in (None, ""):
            org_id = self._org(org_id)
        page = self._metering.metrics.list(org_id=org_id, seen_by=self._own, **values)
        # What is known of an undefined key elsewhere is of other organizations.
        undefined = [replace(one, deleted=False, elsewhere=False, guess=None) for one in page.undefined]
        return replace(page, undefined=tuple(undefined))

    def visible(self) -> Sequence[MetricDefinition]:
        """The definitions that usage is shown by, in the order they are displayed: those of an organization, and those
        of every organization that they do not hide. All of them where the principal sees every organization."""
        self._need_for_subject(Scope.READ)
        rows = self._metering.metrics.definitions(seen_by=self._own)
        if self._own is None:
            return rows
        own = {metric.key for metric in rows if metric.org_id}
        found = [metric for metric in rows if metric.org_id or metric.key not in own]
        return sorted(found, key=lambda metric: (metric.display_order, metric.key))

    def preview_define(self, *, org_id: str | None = None, **values: Any) -> MetricChange | None:
        own = self._writable(org_id)
        change = self._metering.metrics.preview_define(**values, org_id=own)
        return None if change is None else self._seen(change)

    def preview_update(self, key: str, org_id: str | None = None, **changes: Any) -> MetricChange:
        own = self._writable(org_id)
        with self._without_hints():
            return self._seen(self._metering.metrics.preview_update(key, own, **changes))

    def preview_delete(self, key: str, org_id: str | None = None) -> MetricChange:
        own = self._writable(org_id)
        with self._without_hints():
            return self._seen(self._metering.metrics.preview_delete(key, own))

    def _writable(self, org_id: str | None) -> str:
        """The organization whose definition changes. Raises Forbidden."""
        self._need(Scope.MANAGE)
        if self._own == "":
            raise Forbidden(
                "this token is for subjects without an organization; their metrics are those of every organization, "
                "which it cannot change"
            )
        return self._org(org_id) or ""

    def _seen(self, change: MetricChange) -> MetricChange:
        if self._own is None:
            return change
        from meterfold_service.access.thresholds import without_operator

        return replace(
            change,
            resting=tuple(without_operator(one, self._own) for one in change.resting),
            judging=tuple(without_operator(one, self._own) for one in change.judging),
        )
