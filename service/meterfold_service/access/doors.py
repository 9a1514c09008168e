"""OpenMeter's and Lago's operations as one principal may call them: on the meters and events of its organization.

A principal of every organization acts on usage without one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from meterfold_service.access.principal import Scope
from meterfold_service.access.room import Room

if TYPE_CHECKING:
    from meterfold_service.lago.operations import CurrentUsage, LagoIngested
    from meterfold_service.openmeter.meters import Meter
    from meterfold_service.openmeter.operations import Ingested, ListedEvent, MeterRow, SubjectRow
    from meterfold_service.openmeter.queries import MeterQuery

__all__ = ["ScopedLago", "ScopedOpenMeter"]


class _Door(Room):
    def _acting_org(self, scope: Scope) -> str:
        """The organization, where the principal has the scope."""
        self._need(scope)
        return self._own or ""


class ScopedOpenMeter(_Door):
    """As OpenMeter."""

    @property
    def may_block(self) -> bool:
        return self._metering.openmeter.may_block

    def begin(self, documents: Sequence[Any], on_end: Callable[[], None]) -> Ingested:
        return self._metering.openmeter.begin(documents, self._acting_org(Scope.INGEST), on_end)

    def create(self, given: Mapping[str, Any]) -> Meter:
        return self._metering.openmeter.create(given, self._acting_org(Scope.MANAGE))

    def update(self, id_or_slug: str, given: Mapping[str, Any]) -> Meter:
        return self._metering.openmeter.update(id_or_slug, given, self._acting_org(Scope.MANAGE))

    def delete(self, id_or_slug: str) -> None:
        self._metering.openmeter.delete(id_or_slug, self._acting_org(Scope.MANAGE))

    def meters(self) -> Sequence[Meter]:
        return self._metering.openmeter.meters(self._acting_org(Scope.READ))

    def get(self, id_or_slug: str) -> Meter:
        return self._metering.openmeter.get(id_or_slug, self._acting_org(Scope.READ))

    def query(self, id_or_slug: str, query: MeterQuery) -> tuple[Meter, list[MeterRow]]:
        return self._metering.openmeter.query(id_or_slug, query, self._acting_org(Scope.READ))

    def list_events(self, **values: Any) -> list[ListedEvent]:
        return self._metering.openmeter.list_events(self._acting_org(Scope.READ), **values)

    def subjects(self, **values: Any) -> list[SubjectRow]:
        return self._metering.openmeter.subjects(self._acting_org(Scope.READ), **values)


class ScopedLago(_Door):
    """As Lago."""

    def begin(self, documents: Sequence[Any], on_end: Callable[[], None]) -> LagoIngested:
        return self._metering.lago.begin(documents, self._acting_org(Scope.INGEST), on_end)

    def current_usage(self, subscription: str) -> CurrentUsage:
        return self._metering.lago.current_usage(subscription, self._acting_org(Scope.READ))
