"""The operations as one principal may call them: the only place that decides who may do what.

The HTTP API and the console call operations through `Scoped`, never `Metering` itself. Each room checks the scope and
puts the organization and the subject of the principal in place of what was asked for, or refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from meterfold_service.access.doors import ScopedLago, ScopedOpenMeter
from meterfold_service.access.errors import Forbidden
from meterfold_service.access.principal import Principal, Scope

if TYPE_CHECKING:
    from meterfold_schemas.definitions import MetricDefinition
    from meterfold_service.ingest.documents import Document
    from meterfold_service.ingest.operations import Pending
    from meterfold_service.metering import Metering
    from meterfold_service.metrics.operations import MetricPage
    from meterfold_service.pages import Page
    from meterfold_service.usage.results import UsageSummary

__all__ = ["Scoped"]


class Scoped:
    """`metering`, as `principal` may use it. Every operation raises Forbidden where it may not."""

    def __init__(self, metering: Metering, principal: Principal) -> None:
        self.principal = principal
        self._metering = metering

    @cached_property
    def metrics(self) -> ScopedMetrics:
        return ScopedMetrics(self._metering, self.principal)

    @cached_property
    def events(self) -> ScopedEvents:
        return ScopedEvents(self._metering, self.principal)

    @cached_property
    def openmeter(self) -> ScopedOpenMeter:
        return ScopedOpenMeter(self._metering, self.principal)

    @cached_property
    def lago(self) -> ScopedLago:
        return ScopedLago(self._metering, self.principal)

    @cached_property
    def usage(self) -> ScopedUsage:
        return ScopedUsage(self._metering, self.principal)


class _Room:
    def __init__(self, metering: Metering, principal: Principal) -> None:
        self._metering = metering
        self._principal = principal

    def _need(self, scope: Scope) -> None:
        if not self._principal.may(scope):
            raise Forbidden.scope(scope)

    def _org(self, org_id: str | None) -> str | None:
        """The organization that an operation is about: the principal's own where none was asked for."""
        own = self._principal.org_id
        if own is None or org_id == own:
            return org_id
        if org_id is None:
            return own
        raise Forbidden("this token is for another organization; leave org_id out, or ask for your own")

    def _subject(self, subject: tuple[str, str] | None) -> tuple[str, str] | None:
        """The subject that an operation is about: the principal's own where none was asked for."""
        own = self._principal.subject
        if own is None or subject == own:
            return subject
        if subject is None:
            return own
        raise Forbidden("this token is for another subject")


class ScopedMetrics(_Room):
    """As Metrics. A principal of one organization changes its own definitions, and sees those of every organization
    too."""

    def define(self, **values: Any) -> MetricDefinition:
        self._need(Scope.MANAGE)
        return self._metering.metrics.define(**{**values, "org_id": self._org(values.get("org_id")) or ""})

    def list(self, *, org_id: str | None = None, **values: Any) -> MetricPage:
        self._need(Scope.READ)
        return self._metering.metrics.list(org_id=self._org(org_id), **values)

    def get(self, key: str, org_id: str | None = None) -> MetricDefinition:
        self._need(Scope.READ)
        return self._metering.metrics.get(key, self._org(org_id) or "")


class ScopedEvents(_Room):
    """As Events. A principal of one organization sends its events only."""

    @property
    def is_doubtful(self) -> bool:
        return self._metering.events.is_doubtful

    def check(self) -> None:
        self._need(Scope.INGEST)
        self._metering.events.check()

    def begin(self, documents: Iterable[Document], on_end: Callable[[], None]) -> Pending:
        self._need(Scope.INGEST)
        return self._metering.events.begin(documents, self._principal.org_id, on_end)


class ScopedUsage(_Room):
    """As Usage."""

    def get_summary(
        self, metric_key: str, *, org_id: str | None = None, subject: tuple[str, str] | None = None, **values: Any
    ) -> Page[UsageSummary]:
        self._need(Scope.READ)
        return self._metering.usage.get_summary(
            metric_key, org_id=self._org(org_id), subject=self._subject(subject), **values
        )
