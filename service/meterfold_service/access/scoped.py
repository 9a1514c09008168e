"""The operations as one principal may call them: the only place that decides who may do what.

The HTTP API and the console call operations through `Scoped`, never `Metering` itself. Each room checks the scope and
puts the organization and the subject of the principal in place of what was asked for, or refuses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from meterfold_service.access.errors import Forbidden, TokenNotFound
from meterfold_service.access.principal import Principal, Scope
from meterfold_service.errors import AlertNotFound, RejectedNotFound, ThresholdNotFound
from meterfold_service.pages import MAX_LIMIT

if TYPE_CHECKING:
    from meterfold_schemas.definitions import MetricDefinition, UsageThreshold
    from meterfold_service.alerts.operations import UsageAlert
    from meterfold_service.exports.operations import ExportStream
    from meterfold_service.metering import Metering
    from meterfold_service.metrics.changes import MetricChange
    from meterfold_service.metrics.operations import MetricPage
    from meterfold_service.notify.operations import DeliveryPage, DeliveryTry, WebhookEndpoint
    from meterfold_service.pages import Page
    from meterfold_service.periods.results import Adjustment, CloseRun, DuePeriods, PeriodClosing
    from meterfold_service.proofs.operations import Proof
    from meterfold_service.rejected.corrections import Correction
    from meterfold_service.rejected.results import Position, RedriveReport, RejectedMessage
    from meterfold_service.status.operations import FoldTotals
    from meterfold_service.status.report import StatusReport
    from meterfold_service.thresholds.operations import ListedThreshold
    from meterfold_service.tokens.operations import CreatedToken, Token
    from meterfold_service.usage.results import UsagePage, UsageSummary
    from meterfold_sink.subjects import KnownSubject, SubjectMetric

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
    def usage(self) -> ScopedUsage:
        return ScopedUsage(self._metering, self.principal)

    @cached_property
    def thresholds(self) -> ScopedThresholds:
        return ScopedThresholds(self._metering, self.principal)

    @cached_property
    def alerts(self) -> ScopedAlerts:
        return ScopedAlerts(self._metering, self.principal)

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
    def status(self) -> ScopedStatus:
        return ScopedStatus(self._metering, self.principal)

    @cached_property
    def proofs(self) -> ScopedProofs:
        return ScopedProofs(self._metering, self.principal)


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

    def _need_organization(self, scope: Scope) -> None:
        """For what is about an organization, and not about one of its subjects."""
        self._need(scope)
        if self._principal.subject is not None:
            raise Forbidden("this token is for one subject, and this is about its organization")

    def _need_everything(self, scope: Scope) -> None:
        """For what is about every organization together."""
        self._need_organization(scope)
        if self._principal.org_id is not None:
            raise Forbidden("this token is for one organization, and this is about all of them")

    def _sees(self, org_id: str | None, subject: tuple[str, str] | None = None) -> bool:
        """Whether something of this organization and subject may be shown."""
        own = self._principal
        return own.org_id in (None, org_id) and own.subject in (None, subject)


class ScopedMetrics(_Room):
    """As Metrics. A principal of one organization changes its own definitions, and sees those of every organization
    too."""

    def define(self, **values: Any) -> MetricDefinition:
        self._need(Scope.MANAGE)
        return self._metering.metrics.define(**{**values, "org_id": self._org(values.get("org_id")) or ""})

    def list(self, *, org_id: str | None = None, **values: Any) -> MetricPage:
        self._need(Scope.READ)
        found = self._metering.metrics.list(org_id=self._org(org_id), **values)
        return found if self._principal.subject is None else replace(found, undefined=())

    def visible(self) -> Sequence[MetricDefinition]:
        """The definitions that usage is shown by, in the order they are displayed: an organization's own ones, and
        those of every organization that they do not hide. All of them where the principal sees every organization."""
        self._need(Scope.READ)
        own, most = self._principal.org_id, MAX_LIMIT
        rows = self._metering.metrics.list(org_id=own, limit=most).rows
        if not own:
            return rows
        hidden = {metric.key for metric in rows}
        shared = self._metering.metrics.list(org_id="", limit=most).rows
        found = [*rows, *(metric for metric in shared if metric.key not in hidden)]
        return sorted(found, key=lambda metric: (metric.display_order, metric.key))

    def update(self, key: str, org_id: str | None = None, **changes: Any) -> MetricDefinition:
        self._need_organization(Scope.MANAGE)
        return self._metering.metrics.update(key, self._org(org_id) or "", **changes)

    def delete(self, key: str, org_id: str | None = None) -> None:
        self._need_organization(Scope.MANAGE)
        self._metering.metrics.delete(key, self._org(org_id) or "")

    def preview_define(self, **values: Any) -> MetricChange | None:
        self._need_organization(Scope.MANAGE)
        return self._metering.metrics.preview_define(**{**values, "org_id": self._org(values.get("org_id")) or ""})

    def preview_update(self, key: str, org_id: str | None = None, **changes: Any) -> MetricChange:
        self._need_organization(Scope.MANAGE)
        return self._metering.metrics.preview_update(key, self._org(org_id) or "", **changes)

    def preview_delete(self, key: str, org_id: str | None = None) -> MetricChange:
        self._need_organization(Scope.MANAGE)
        return self._metering.metrics.preview_delete(key, self._org(org_id) or "")

    def get(self, key: str, org_id: str | None = None) -> MetricDefinition:
        self._need(Scope.READ)
        return self._metering.metrics.get(key, self._org(org_id) or "")


class ScopedUsage(_Room):
    """As Usage."""

    def get_summary(
        self, metric_key: str, *, org_id: str | None = None, subject: tuple[str, str] | None = None, **values: Any
    ) -> Page[UsageSummary]:
        self._need(Scope.READ)
        return self._metering.usage.get_summary(
            metric_key, org_id=self._org(org_id), subject=self._subject(subject), **values
        )

    def get(
        self, metric_key: str, subject: tuple[str, str] | None = None, *, org_id: str | None = None, **values: Any
    ) -> UsagePage:
        self._need(Scope.READ)
        found = self._subject(subject)
        if found is None:
            raise Forbidden("records are read of one subject: give it")
        return self._metering.usage.get(metric_key, found, org_id=self._org(org_id) or "", **values)

    def stream(
        self, what: str, *, org_id: str | None = None, subject: tuple[str, str] | None = None, **values: Any
    ) -> ExportStream:
        self._need(Scope.READ)
        return self._metering.usage.stream(what, org_id=self._org(org_id), subject=self._subject(subject), **values)

    def subjects(self, text: str = "", *, org_id: str | None = None, limit: int = 50) -> Sequence[KnownSubject]:
        self._need_organization(Scope.READ)
        return self._metering.usage.subjects(text, org_id=self._org(org_id), limit=limit)

    def metrics_of(
        self, subject: tuple[str, str] | None = None, *, org_id: str | None = None
    ) -> Sequence[SubjectMetric]:
        self._need(Scope.READ)
        found = self._subject(subject)
        if found is None:
            raise Forbidden("give a subject")
        return self._metering.usage.metrics_of(found, org_id=self._org(org_id) or "")


class ScopedThresholds(_Room):
    """As Thresholds. A principal of one organization has those of this organization: the current windows of others are
    those of every organization's subjects."""

    def list(self, *, org_id: str | None = None, **values: Any) -> Page[ListedThreshold]:
        self._need_organization(Scope.READ)
        return self._metering.thresholds.list(org_id=self._org(org_id), **values)

    def get(self, threshold_id: str) -> UsageThreshold:
        self._need_organization(Scope.READ)
        return self._own(threshold_id)

    def create(self, *, org_id: str | None = None, **values: Any) -> UsageThreshold:
        self._need_organization(Scope.MANAGE)
        return self._metering.thresholds.create(org_id=self._org(org_id), **values)

    def update(self, threshold_id: str, **changes: Any) -> UsageThreshold:
        self._need_organization(Scope.MANAGE)
        self._own(threshold_id)
        return self._metering.thresholds.update(threshold_id, **changes)

    def delete(self, threshold_id: str) -> None:
        self._need_organization(Scope.MANAGE)
        self._own(threshold_id)
        self._metering.thresholds.delete(threshold_id)

    def watched_subjects(self, threshold_id: str) -> Any:
        self._need_organization(Scope.READ)
        self._own(threshold_id)
        return self._metering.thresholds.watched_subjects(threshold_id)

    def _own(self, threshold_id: str) -> UsageThreshold:
        found = self._metering.thresholds.get(threshold_id)
        if not self._sees(found.org_id):
            raise ThresholdNotFound(threshold_id)
        return found


class ScopedAlerts(_Room):
    """As Alerts."""

    def list(
        self, *, org_id: str | None = None, subject: tuple[str, str] | None = None, **values: Any
    ) -> Page[UsageAlert]:
        self._need(Scope.READ)
        return self._metering.alerts.list(org_id=self._org(org_id), subject=self._subject(subject), **values)

    def get(self, alert_id: str) -> UsageAlert:
        self._need(Scope.READ)
        found = self._metering.alerts.get(alert_id)
        if not self._sees(found.org_id, (found.subject_type, found.subject_id)):
            raise AlertNotFound(alert_id)
        return found

    def acknowledge(self, alert_id: str) -> UsageAlert:
        self._need_organization(Scope.MANAGE)
        self.get(alert_id)
        return self._metering.alerts.acknowledge(alert_id, by=self._principal.name)

    def resolve(self, alert_id: str) -> UsageAlert:
        self._need_organization(Scope.MANAGE)
        self.get(alert_id)
        return self._metering.alerts.resolve(alert_id, by=self._principal.name)


class ScopedPeriods(_Room):
    """As Periods. A closing is of every organization together."""

    def list(self, period: str | None = None, **values: Any) -> Page[PeriodClosing]:
        self._need_everything(Scope.READ)
        return self._metering.periods.list(period, **values)

    def due(self, *, limit: int) -> DuePeriods:
        self._need_everything(Scope.READ)
        return self._metering.periods.due(limit=limit)

    def close(self, period: str, start: datetime, metric_key: str | None = None) -> PeriodClosing:
        self._need_everything(Scope.MANAGE)
        return self._metering.periods.close(period, start, metric_key)

    def close_due(self, *, limit: int) -> CloseRun:
        self._need_everything(Scope.MANAGE)
        return self._metering.periods.close_due(limit=limit)

    def adjustments(
        self,
        period: str | None = None,
        *,
        org_id: str | None = None,
        subject: tuple[str, str] | None = None,
        **values: Any,
    ) -> Page[Adjustment]:
        self._need(Scope.READ)
        return self._metering.periods.adjustments(
            period, org_id=self._org(org_id), subject=self._subject(subject), **values
        )


class ScopedRejected(_Room):
    """As Rejected. Only a principal of every organization sends messages again: a correction may change the
    organization."""

    def list(self, *, org_id: str | None = None, **values: Any) -> Page[RejectedMessage]:
        self._need_organization(Scope.READ)
        return self._metering.rejected.list(org_id=self._org(org_id), **values)

    def count(self, *, org_id: str | None = None, **values: Any) -> Mapping[str, int]:
        self._need_organization(Scope.READ)
        return self._metering.rejected.count(org_id=self._org(org_id), **values)

    def get(self, position: Position) -> RejectedMessage:
        self._need_organization(Scope.READ)
        found = self._metering.rejected.get(position)
        if not self._sees(found.org_id):
            raise RejectedNotFound(position.partition, position.offset)
        return found

    def redrive(self, corrections: Mapping[Position, Correction], **values: Any) -> RedriveReport:
        self._need_everything(Scope.MANAGE)
        return self._metering.rejected.redrive(corrections, by=self._principal.name, **values)


class ScopedNotifications(_Room):
    """As Notifications. Endpoints are shared by every organization."""

    def list(self, *, org_id: str | None = None, **values: Any) -> DeliveryPage:
        self._need_organization(Scope.READ)
        return self._metering.notifications.list(org_id=self._org(org_id), **values)

    def tries(self, event_id: str) -> tuple[DeliveryTry, ...]:
        self._need_everything(Scope.READ)
        return self._metering.notifications.tries(event_id)

    def endpoints(self) -> tuple[WebhookEndpoint, ...]:
        self._need_everything(Scope.READ)
        return self._metering.notifications.endpoints()

    def enable(self, endpoint: str) -> WebhookEndpoint:
        self._need_everything(Scope.MANAGE)
        return self._metering.notifications.enable(endpoint, by=self._principal.name)

    def redeliver(self, **values: Any) -> int:
        self._need_everything(Scope.MANAGE)
        return self._metering.notifications.redeliver(**values)


class ScopedTokens(_Room):
    """As Tokens."""

    def list(self, *, org_id: str | None = None, **values: Any) -> Page[Token]:
        self._need_organization(Scope.ADMIN)
        return self._metering.tokens.list(org_id=self._org(org_id), **values)

    def create(self, *, org_id: str | None = None, **values: Any) -> CreatedToken:
        self._need_organization(Scope.ADMIN)
        return self._metering.tokens.create(org_id=self._org(org_id), **values)

    def revoke(self, token_id: str) -> Token:
        self._need_organization(Scope.ADMIN)
        found = self._metering.tokens.find(token_id)
        if found is None or not self._sees(found.org_id):
            raise TokenNotFound(token_id)
        return self._metering.tokens.revoke(token_id)


class ScopedStatus(_Room):
    """As Status."""

    def look(self) -> StatusReport:
        self._need_everything(Scope.READ)
        return self._metering.status.look()

    def totals(self) -> FoldTotals:
        self._need_everything(Scope.READ)
        return self._metering.status.totals()

    def need(self) -> None:
        """Raises Forbidden where `look` does."""
        self._need_everything(Scope.READ)


class ScopedProofs(_Room):
    """As Proofs."""

    def list(self, *, limit: int = 20) -> Sequence[Proof]:
        self._need_everything(Scope.READ)
        return self._metering.proofs.list(limit=limit)

    def get(self, proof_id: str) -> Proof:
        self._need_everything(Scope.READ)
        return self._metering.proofs.get(proof_id)

    def start(self, **values: Any) -> Proof:
        self._need_everything(Scope.MANAGE)
        return self._metering.proofs.start(by=self._principal.name, **values)
