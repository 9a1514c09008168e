"""`status` of Scoped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meterfold_service.access.principal import Scope
from meterfold_service.access.room import Room

if TYPE_CHECKING:
    from meterfold_service.status.operations import FoldTotals
    from meterfold_service.status.report import StatusReport

__all__ = ["ScopedStatus"]

_COUNTS = "counts and lag are"


class ScopedStatus(Room):
    """As Status."""

    def look(self) -> StatusReport:
        self.need()
        return self._metering.status.look()

    def totals(self) -> FoldTotals:
        self.need()
        return self._metering.status.totals()

    def need(self) -> None:
        """Raises Forbidden where `look` and `totals` do: for what is shared by all who watch."""
        self._need_everything(Scope.READ, _COUNTS)
