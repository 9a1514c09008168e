"""/v1/settings"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter

from meterfold_service.access.principal import Scope
from meterfold_service.http.context import Caller, needs
from meterfold_service.http.models.settings import Settings

router = APIRouter(prefix="/v1/settings", tags=["installation"])


@router.get("")
async def show(caller: Annotated[Caller, needs(Scope.READ)]) -> Settings:
    """Show the stored settings, and what is in effect."""
    return Settings.of(await caller.run(caller.may.settings.show))
