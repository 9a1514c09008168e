"""Tokens: create, list, revoke."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from starlette.responses import Response

from meterfold_schemas.errors import InvalidDefinition, InvalidUsage
from meterfold_service.console import fields
from meterfold_service.console.visit import Visit, page

__all__ = ["ROUTES"]

_LIMIT: Final = 50


async def tokens(visit: Visit) -> Response:
    return await _shown(visit)


async def create(visit: Visit) -> Response:
    """Answers with the text: an address must not have it."""
    try:
        days = fields.number(visit.form, "days", 0)
        created = await visit.run(
            visit.may.tokens.create,
            name=visit.form.get("name", ""),
            scopes=[visit.form.get("scope", "")],
            org_id=fields.org_of(visit.form),
            expires_in=timedelta(days=days) if days else None,
        )
    except (InvalidDefinition, InvalidUsage, OverflowError) as error:
        return await _shown(visit, problem=error)
    return await _shown(visit, text=created.text)


async def revoke(visit: Visit) -> Response:
    await visit.run(visit.may.tokens.revoke, visit.form.get("id", ""))
    return visit.go("/tokens", done="revoked")


async def _shown(visit: Visit, *, text: str | None = None, problem: Exception | None = None) -> Response:
    offset = fields.number(visit.query, "offset", 0)
    found = await visit.run(visit.may.tokens.list, limit=_LIMIT, offset=offset)
    form = visit.form if problem else {}
    return visit.render(
        "tokens.html",
        422 if problem else 200,
        found=found,
        text=text,
        problem=problem,
        form=form,
        offset=offset,
        limit=_LIMIT,
    )


ROUTES = (
    page("/tokens", tokens),
    page("/tokens", create, method="POST"),
    page("/tokens/revoke", revoke, method="POST"),
)
