"""Periods: what is due, what was closed, and what moved since."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

from starlette.responses import Response

from meterfold_schemas.errors import InvalidUsage
from meterfold_schemas.zones import zone_of
from meterfold_service.access.principal import Scope
from meterfold_service.console import fields
from meterfold_service.console.visit import Visit, page
from meterfold_service.errors import OperationError

__all__ = ["ROUTES"]

_LIMIT: Final = 50
_DUE: Final = 10


async def periods(visit: Visit) -> Response:
    return await _shown(visit)


async def close(visit: Visit) -> Response:
    period = visit.form.get("period", "")
    start = fields.moment(visit.form, "start", zone_of(None))
    if start is None:
        raise InvalidUsage("give the start of the period")
    try:
        await visit.run(visit.may.periods.close, period, start)
    except (OperationError, InvalidUsage) as error:
        return await _shown(visit, error)
    return visit.go("/periods", done="closed")


async def _shown(visit: Visit, problem: Exception | None = None) -> Response:
    sees_all = visit.principal.org_id is None
    due = closings = None
    if sees_all:
        due, closings = await asyncio.gather(
            visit.run(visit.may.periods.due, limit=_DUE),
            visit.run(visit.may.periods.list, limit=_LIMIT, cursor=fields.text(visit.query, "closings")),
        )
    first = visit.desk.now().replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    last_month = f"{(first - timedelta(days=1)).replace(day=1):%Y-%m-%d}"
    return visit.render(
        "periods.html",
        409 if problem else 200,
        problem=problem,
        sees_all=sees_all,
        manages=visit.principal.may(Scope.MANAGE),
        due=due,
        closings=closings,
        given=visit.form if problem else {"period": "monthly", "start": last_month},
        last_month=last_month,
        offset=fields.number(visit.query, "offset", 0),
    )


async def adjustments(visit: Visit) -> Response:
    """A part of the page: it looks at every period that has moved."""
    offset = fields.number(visit.query, "offset", 0)
    found = await visit.run(visit.may.periods.adjustments, limit=_LIMIT, offset=offset)
    return visit.render("_adjustments.html", adjustments=found, offset=offset, limit=_LIMIT)


ROUTES = (
    page("/periods", periods),
    page("/periods/adjustments", adjustments),
    page("/periods/close", close, method="POST"),
)
