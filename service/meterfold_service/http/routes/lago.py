"""/api/v1/customers: Lago's current usage."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from meterfold_service.access.principal import Scope
from meterfold_service.http import lago_answers
from meterfold_service.http.context import Caller, needs

router = APIRouter(prefix="/api/v1/customers", tags=["lago"], include_in_schema=False)


@router.get("/{external_customer_id}/current_usage")
async def current_usage(
    external_customer_id: str,
    caller: Annotated[Caller, needs(Scope.READ)],
    external_subscription_id: Annotated[str, Query(min_length=1)],
) -> dict[str, Any]:
    """What a subscription has used this month. The customer is not looked at: events name subscriptions only."""
    return lago_answers.current_usage(await caller.run(caller.may.lago.current_usage, external_subscription_id))
