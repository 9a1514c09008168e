"""/v1/notifications"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from meterfold_service.access.principal import Scope
from meterfold_service.http.context import Caller, needs
from meterfold_service.http.models.notifications import (
    DeliveryList,
    DeliveryQuery,
    DeliveryTry,
    Endpoint,
    EndpointList,
    EndpointToEnable,
    Redelivered,
    RedeliveryRequest,
    TestRequest,
    TryList,
)
from meterfold_service.http.models.values import PageQuery
from meterfold_service.http.responses import NOT_FOUND

router = APIRouter(prefix="/v1/notifications", tags=["notifications"])


@router.get("")
async def list_(query: Annotated[DeliveryQuery, Query()], caller: Annotated[Caller, needs(Scope.READ)]) -> DeliveryList:
    """List deliveries, those of the newest events first."""
    page = await caller.run(
        caller.may.notifications.list,
        state=query.state,
        channel=query.channel,
        target=query.target,
        event_id=query.event_id,
        org_id=query.org_id,
        threshold_id=query.threshold_id,
        alert_id=query.alert_id,
        start=query.start,
        end=query.end,
        sort=query.sort,
        **query.page,
    )
    return DeliveryList.page(page)


@router.get("/endpoints")
async def endpoints(query: Annotated[PageQuery, Query()], caller: Annotated[Caller, needs(Scope.READ)]) -> EndpointList:
    """List webhooks that fail or are disabled, and those that were."""
    return EndpointList.page(await caller.run(caller.may.notifications.page_of_endpoints, **query.page))


@router.post("/endpoints/enable", responses=NOT_FOUND)
async def enable(body: EndpointToEnable, caller: Annotated[Caller, needs(Scope.MANAGE)]) -> Endpoint:
    """Send to a webhook again. What was not sent meanwhile needs a redelivery."""
    return Endpoint.of(await caller.change(caller.may.notifications.enable, body.endpoint, by=body.by))


@router.post("/redeliver")
async def redeliver(body: RedeliveryRequest, caller: Annotated[Caller, needs(Scope.MANAGE)]) -> Redelivered:
    """Send deliveries again, with the same ids. The running notifier sends them."""
    return Redelivered(deliveries=await caller.change(caller.may.notifications.redeliver, **body.given()))


@router.post("/test")
async def test(body: TestRequest, caller: Annotated[Caller, needs(Scope.MANAGE)]) -> DeliveryTry:
    """Let the running notifier send a test message, and return its first try."""
    return DeliveryTry.of(await caller.change(caller.may.notifications.test, body.channel, body.target))


@router.get("/{event_id}/tries")
async def tries(
    event_id: str, query: Annotated[PageQuery, Query()], caller: Annotated[Caller, needs(Scope.READ)]
) -> TryList:
    """List every try of every delivery of one event."""
    return TryList.page(await caller.run(caller.may.notifications.page_of_tries, event_id, **query.page))
