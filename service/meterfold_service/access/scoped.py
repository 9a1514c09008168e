"""The operations as one principal may call them: the only place that decides who may do what.

The HTTP API and the console call operations through `Scoped`, never `Metering` itself. Each room checks the scope and
puts the organization and the subject of the principal in place of what was asked for, or refuses.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from meterfold_service.access.alerts import ScopedAlerts
from meterfold_service.access.doors import ScopedLago, ScopedOpenMeter
from meterfold_service.access.events import ScopedEvents
from meterfold_service.access.limits import ScopedLimits
from meterfold_service.access.metrics import ScopedMetrics
from meterfold_service.access.notifications import ScopedNotifications
from meterfold_service.access.periods import ScopedPeriods
from meterfold_service.access.proofs import ScopedProofs
from meterfold_service.access.rejected import ScopedRejected
from meterfold_service.access.status import ScopedStatus
from meterfold_service.access.thresholds import ScopedThresholds
from meterfold_service.access.tokens import ScopedSettings, ScopedTokens
from meterfold_service.access.usage import ScopedUsage

if TYPE_CHECKING:
    from meterfold_service.access.principal import Principal
    from meterfold_service.metering import Metering

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
    def thresholds(self) -> ScopedThresholds:
        return ScopedThresholds(self._metering, self.principal)

    @cached_property
    def alerts(self) -> ScopedAlerts:
        return ScopedAlerts(self._metering, self.principal)

    @cached_property
    def usage(self) -> ScopedUsage:
        return ScopedUsage(self._metering, self.principal)

    @cached_property
    def limits(self) -> ScopedLimits:
        return ScopedLimits(self._metering, self.principal)

    @cached_property
    def periods(self) -> ScopedPeriods:
        return ScopedPeriods(self._metering, self.principal)

    @cached_property
    def rejected(self) -> ScopedRejected:
        return ScopedRejected(self._metering, self.principal)

    @cached_property
    def notifications(self) -> ScopedNotifications:
        return ScopedNotifications(self._metering, self.principal)

    @cached_property
    def tokens(self) -> ScopedTokens:
        return ScopedTokens(self._metering, self.principal)

    @cached_property
    def settings(self) -> ScopedSettings:
        return ScopedSettings(self._metering, self.principal)

    @cached_property
    def status(self) -> ScopedStatus:
        return ScopedStatus(self._metering, self.principal)

    @cached_property
    def proofs(self) -> ScopedProofs:
        return ScopedProofs(self._metering, self.principal)
