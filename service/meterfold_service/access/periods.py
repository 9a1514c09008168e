"""`periods` of Scoped."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from meterfold_service.access.principal import Scope
from meterfold_service.access.room import Room

if TYPE_CHECKING:
    from meterfold_service.pages import Page
    from meterfold_service.periods.results import Adjustment, CloseRun, DuePeriods, PeriodClosing

__all__ = ["ScopedPeriods"]

_CLOSINGS = "closings are"


class ScopedPeriods(Room):
    """As Periods. Closings count the records of every organization; adjustments are of one."""

    def close(self, period: str, start: datetime, metric_key: str | None = None, **values: Any) -> PeriodClosing:
        self._need_everything(Scope.MANAGE, _CLOSINGS)
        return self._metering.periods.close(period, start, metric_key, **values)

    def close_many(
        self, period: str, start: datetime, end: datetime, metric_key: str | None = None, **values: Any
    ) -> CloseRun:
        self._need_everything(Scope.MANAGE, _CLOSINGS)
        return self._metering.periods.close_many(period, start, end, metric_key, **values)

    def close_due(self, *args: Any, **values: Any) -> CloseRun:
        self._need_everything(Scope.MANAGE, _CLOSINGS)
        return self._metering.periods.close_due(*args, **values)

    def due(self, *args: Any, **values: Any) -> DuePeriods:
        self._need_everything(Scope.READ, _CLOSINGS)
        return self._metering.periods.due(*args, **values)

    def get(self, period: str, start: datetime, metric_key: str | None = None, **values: Any) -> PeriodClosing:
        self._need_everything(Scope.READ, _CLOSINGS)
        return self._metering.periods.get(period, start, metric_key, **values)

    def list(self, period: str | None = None, **values: Any) -> Page[PeriodClosing]:
        self._need_everything(Scope.READ, _CLOSINGS)
        return self._metering.periods.list(period, **values)

    def adjustments(self, period: str | None = None, *, org_id: str | None = None, **values: Any) -> Page[Adjustment]:
        self._need(Scope.READ)
        return self._metering.periods.adjustments(period, org_id=self._org(org_id), **values)
