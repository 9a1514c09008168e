"""`limits` of Scoped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meterfold_service.access.principal import Scope
from meterfold_service.access.room import Room

if TYPE_CHECKING:
    from meterfold_service.limits.operations import SubjectLimits

__all__ = ["ScopedLimits"]


class ScopedLimits(Room):
    """As Limits. A principal of a subject gets its own."""

    def get(self, subject: tuple[str, str], *, org_id: str | None = None) -> SubjectLimits:
        self._need_for_subject(Scope.READ)
        whose = self._subject(subject) or subject
        return self._metering.limits.get(whose, org_id=self._org(org_id) or "")
