"""`notifications` of Scoped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from meterfold_service.access.principal import Scope
from meterfold_service.access.room import Room

if TYPE_CHECKING:
    from meterfold_service.notify.operations import DeliveryPage, DeliveryTry, WebhookEndpoint
    from meterfold_service.pages import Page

__all__ = ["ScopedNotifications"]

_ENDPOINTS = "webhooks are"


class ScopedNotifications(Room):
    """As Notifications. A principal of one organization sees what its own thresholds send; those of every organization
    send to the addresses of the installation."""

    def list(self, *, org_id: str | None = None, **values: Any) -> DeliveryPage:
        self._need(Scope.READ)
        return self._metering.notifications.list(org_id=self._org(org_id), seen_by=self._own, **values)

    def tries(self, event_id: str) -> tuple[DeliveryTry, ...]:
        self._need(Scope.READ)
        return self._metering.notifications.tries(event_id, seen_by=self._own)

    def page_of_tries(self, event_id: str, **values: Any) -> Page[DeliveryTry]:
        self._need(Scope.READ)
        return self._metering.notifications.page_of_tries(event_id, seen_by=self._own, **values)

    def redeliver(self, *, org_id: str | None = None, **values: Any) -> int:
        self._need(Scope.MANAGE)
        return self._metering.notifications.redeliver(org_id=self._org(org_id), seen_by=self._own, **values)

    def test(self, channel: Literal["email", "webhook", "chat"], target: str) -> DeliveryTry:
        self._need_everything(Scope.MANAGE, "test messages are sent with the addresses and secrets")
        return self._metering.notifications.test(channel, target)

    def endpoints(self) -> tuple[WebhookEndpoint, ...]:
        self._need_everything(Scope.READ, _ENDPOINTS)
        return self._metering.notifications.endpoints()

    def page_of_endpoints(self, **values: Any) -> Page[WebhookEndpoint]:
        self._need_everything(Scope.READ, _ENDPOINTS)
        return self._metering.notifications.page_of_endpoints(**values)

    def enable(self, endpoint: str, *, by: str | None = None) -> WebhookEndpoint:
        self._need_everything(Scope.MANAGE, _ENDPOINTS)
        return self._metering.notifications.enable(endpoint, by=by or self._principal.name)
