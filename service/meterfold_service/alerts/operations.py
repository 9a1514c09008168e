"""`metering.alerts`: alert.list, acknowledge and resolve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from meterfold_schemas.errors import InvalidUsage, shown
from meterfold_schemas.periods import Period
from meterfold_schemas.vocabulary import Action, AlertAction, AlertStatus, Level
from meterfold_service.errors import AlertNotFound
from meterfold_service.pages import Page, RowOrder, check_page

if TYPE_CHECKING:
    from enum import StrEnum

    from meterfold_service.alerts.action_log import ActionLog
    from meterfold_sink.client import Client
    from meterfold_sink.pool import ClientPool

__all__ = ["Alerts", "UsageAlert"]

E = TypeVar("E", bound="StrEnum")


@dataclass(frozen=True, slots=True)
class UsageAlert:
    """One level that was reached: one alert per threshold, subject, window, level and crossing.

    `threshold`, `actual_value`, `percentage_used` (of the threshold) and `action` are as they were when it was
    triggered. `period_end` is None for a lifetime. `resolved_by` is None where nobody resolved it: the value fell back,
    or the window ended.
    """

    id: str
    threshold_id: str
    org_id: str
    metric_key: str
    subject_type: str
    subject_id: str
    period_type: Period
    period_start: datetime
    period_end: datetime | None
    level: Level
    crossing: int
    threshold: Decimal
    actual_value: Decimal
    percentage_used: Decimal
    action: Action
    status: AlertStatus
    acknowledged_by: str | None
    acknowledged_at: datetime | None
    resolved_by: str | None
    resolved_at: datetime | None
    triggered_at: datetime


_NAMES = tuple(field.name for field in fields(UsageAlert))


class Alerts:
    """The operations on alerts; for any thread. Every one raises Retryable or Fatal, and what it says itself."""

    def __init__(self, log: Callable[[], ActionLog], clients: ClientPool, now: Callable[[], datetime]) -> None:
        self._log = log
        self._clients = clients
        self._now = now

    def list(
        self,
        *,
        metric_key: str | None = None,
        subject: tuple[str, str] | None = None,
        org_id: str | None = None,
        threshold_id: str | None = None,
        status: AlertStatus | str | None = None,
        level: Level | str | None = None,
        since: datetime | None = None,
        sort: str | None = None,
        limit: int = 100,
        offset: int = 0,
        cursor: str | None = None,
    ) -> Page[UsageAlert]:
        """alert.list: the alerts that were triggered at `since` or later, the newest first, or by `sort`: triggered_at
        or percentage_used, with a minus sign in reverse.

        `org_id` "": of subjects without an organization. Raises InvalidUsage for a wrong filter or page.
        """
        from meterfold_sink.alerts import ALERT_SORTS, list_alerts

        check_page(limit, offset)
        order = RowOrder("alerts", ALERT_SORTS, "-triggered_at")
        keys, after = order.start(sort, cursor)
        if since is not None and since.tzinfo is None:
            raise InvalidUsage("since must be a timezone-aware datetime")
        wanted = {
            "metric_key": metric_key,
            "org_id": org_id,
            "subject_type": None if subject is None else subject[0],
            "subject_id": None if subject is None else subject[1],
            "threshold_id": threshold_id,
            "status": _one_of(AlertStatus, "status", status),
            "level": _one_of(Level, "level", level),
        }
        with self._clients.client() as client:
            page = list_alerts(client, wanted, keys, since=since, limit=limit, offset=offset, after=after)
        rows = tuple(_alert(row) for row in page.rows)
        return Page(page.total, rows, cursor=order.cursor(sort, page.end))

    def get(self, alert_id: str) -> UsageAlert:
        """One alert. Raises AlertNotFound."""
        with self._clients.client() as client:
            return _get(client, alert_id)

    def acknowledge(self, alert_id: str, *, by: str) -> UsageAlert:
        """alert.acknowledge: say that somebody takes care of it. The first one wins, also of two at the same moment:
        both get the alert with the winner's name. One that is resolved already stays as it is.

        `by`: a person or a program, in at most 512 bytes. Raises AlertNotFound, InvalidUsage and CheckerNotRunning.
        """
        return self._act(alert_id, AlertAction.ACKNOWLEDGE, by)

    def resolve(self, alert_id: str, *, by: str) -> UsageAlert:
        """alert.resolve: close it before the value falls back or the window ends. Otherwise as `acknowledge`."""
        return self._act(alert_id, AlertAction.RESOLVE, by)

    def _act(self, alert_id: str, action: AlertAction, by: str) -> UsageAlert:
        from meterfold_schemas.alert_actions import AlertActed

        acted = AlertActed(occurred_at=self._now().astimezone(UTC), alert_id=alert_id, action=action, by=by)
        with self._clients.client() as client:
            alert = _get(client, alert_id)
            if _has_no_effect(alert, action):
                return alert
            log = self._log()
            log.wait(client, acted, log.publish(acted))
            return _get(client, alert_id)


def _has_no_effect(alert: UsageAlert, action: AlertAction) -> bool:
    """Whether an answer that was given to somebody else decides already."""
    if alert.status is AlertStatus.RESOLVED:
        return True
    return action is AlertAction.ACKNOWLEDGE and alert.acknowledged_by is not None


def _get(client: Client, alert_id: str) -> UsageAlert:
    from meterfold_sink.alerts import find_alert

    row = find_alert(client, alert_id)
    if row is None:
        raise AlertNotFound(alert_id)
    return _alert(row)


def _alert(row: dict[str, Any]) -> UsageAlert:
    values = {name: row[name] for name in _NAMES}
    values["period_type"] = Period(values["period_type"])
    values["level"] = Level(values["level"])
    values["action"] = Action(values["action"])
    values["status"] = AlertStatus(values["status"])
    return UsageAlert(**values)


def _one_of(kind: type[E], field: str, value: str | None) -> str | None:
    """The value, if it is one of the kind's. Raises InvalidUsage."""
    if value is None:
        return None
    choices = [choice for choice in kind if choice != Level.NONE]
    if value not in choices:
        raise InvalidUsage(f"{field} {shown(value)} must be {' or '.join(choices)}")
    return str(value)
