"""Deliveries: what became of notifications, and endpoints that fail."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from starlette.responses import Response

from meterfold_service.access.principal import Scope
from meterfold_service.console import fields
from meterfold_service.console.visit import Visit, page
from meterfold_service.notify.operations import STATES, WebhookEndpoint

__all__ = ["ROUTES"]

_LIMIT: Final = 50


async def deliveries(visit: Visit) -> Response:
    sees_all = visit.principal.org_id is None
    state = fields.text(visit.query, "state")
    found, endpoints = await asyncio.gather(
        visit.run(
            visit.may.notifications.list,
            state=state,
            alert_id=fields.text(visit.query, "alert_id"),
            cursor=fields.text(visit.query, "cursor"),
            limit=_LIMIT,
        ),
        _endpoints(visit),
    )
    return visit.render(
        "deliveries.html",
        found=found,
        endpoints=endpoints,
        state=state,
        states=STATES,
        sees_all=sees_all,
        manages=sees_all and visit.principal.may(Scope.MANAGE),
    )


async def _endpoints(visit: Visit) -> Sequence[WebhookEndpoint]:
    """Those of every organization that fail, for whoever sees them."""
    if visit.principal.org_id is not None:
        return ()
    return [one for one in await visit.run(visit.may.notifications.endpoints) if one.state != "active"]


async def one(visit: Visit) -> Response:
    event_id = visit.query.get("event_id", "")
    return visit.render(
        "delivery.html", event_id=event_id, tries=await visit.run(visit.may.notifications.tries, event_id)
    )


async def enable(visit: Visit) -> Response:
    await visit.run(visit.may.notifications.enable, visit.form.get("endpoint", ""))
    return visit.go("/deliveries", done="enabled")


async def again(visit: Visit) -> Response:
    await visit.run(visit.may.notifications.redeliver, event_id=visit.form.get("event_id", ""))
    return visit.go("/deliveries", done="redelivered")


ROUTES = (
    page("/deliveries", deliveries),
    page("/deliveries/one", one),
    page("/deliveries/enable", enable, method="POST"),
    page("/deliveries/again", again, method="POST"),
)
