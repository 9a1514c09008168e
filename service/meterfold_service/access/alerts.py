"""`alerts` of Scoped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meterfold_service.access.principal import Scope
from meterfold_service.access.room import Room
from meterfold_service.errors import AlertNotFound

if TYPE_CHECKING:
    from meterfold_service.alerts.operations import UsageAlert
    from meterfold_service.pages import Page

__all__ = ["ScopedAlerts"]


class ScopedAlerts(Room):
    """As Alerts. `by` is the name of the principal where nobody is named."""

    def list(self, *, org_id: str | None = None, **values: Any) -> Page[UsageAlert]:
        self._need(Scope.READ)
        return self._metering.alerts.list(org_id=self._org(org_id), **values)

    def get(self, alert_id: str) -> UsageAlert:
        self._need(Scope.READ)
        return self._seen(alert_id)

    def acknowledge(self, alert_id: str, *, by: str | None = None) -> UsageAlert:
        self._need(Scope.MANAGE)
        self._seen(alert_id)
        return self._metering.alerts.acknowledge(alert_id, by=by or self._principal.name)

    def resolve(self, alert_id: str, *, by: str | None = None) -> UsageAlert:
        self._need(Scope.MANAGE)
        self._seen(alert_id)
        return self._metering.alerts.resolve(alert_id, by=by or self._principal.name)

    def _seen(self, alert_id: str) -> UsageAlert:
        """Raises AlertNotFound, also for one of another organization."""
        found = self._metering.alerts.get(alert_id)
        if self._own is not None and found.org_id != self._own:
            raise AlertNotFound(alert_id)
        return found
