"""Subjects: search, everything of one, and the page that a customer sees: the same with less on it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlencode

from starlette.responses import Response

from meterfold_schemas.errors import InvalidUsage
from meterfold_service.access.principal import Scope
from meterfold_service.alerts.operations import UsageAlert
from meterfold_service.console import fields
from meterfold_service.console.links import LINK_MINUTES, link_of
from meterfold_service.console.rendering import org_text, shown_precision, url
from meterfold_service.console.visit import Visit, page

__all__ = ["ROUTES", "one_subject"]

_LIMIT: Final = 50
_ALERTS: Final = 20


@dataclass(frozen=True, slots=True)
class Row:
    """One metric of a subject, this month."""

    key: str
    name: str
    unit: str
    precision: int
    total: Decimal | None
    events: int
    last_used: datetime
    link: str


async def subjects(visit: Visit) -> Response:
    text = visit.query.get("q", "").strip()
    org = fields.org_of(visit.query)
    rows = await visit.run(visit.may.usage.subjects, text, org_id=org, limit=_LIMIT)
    return visit.render("subjects.html", rows=rows, q=text, org=org_text(org), limit=_LIMIT)


async def one(visit: Visit) -> Response:
    subject = fields.subject_of(visit.query)
    if subject is None:
        raise InvalidUsage("give the type and the id of a subject")
    return await one_subject(visit, subject, fields.org_of(visit.query) or "")


async def one_subject(visit: Visit, subject: tuple[str, str], org: str, **more: Any) -> Response:
    """Everything of a subject; for a token of the subject without the ways to other pages."""
    is_customer = visit.principal.subject is not None
    month = visit.desk.now().replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    rows, limits, alerts = await asyncio.gather(
        _rows(visit, subject, org, month),
        visit.run(visit.may.thresholds.of_subject, subject, org_id=org),
        _alerts(visit, subject, org),
    )
    return visit.render(
        "subject.html",
        **{
            "subject": subject,
            "org": org,
            "is_customer": is_customer,
            "rows": rows,
            "month": f"{month:%Y-%m}",
            "limits": limits,
            "alerts": alerts,
            "may_link": visit.principal.may(Scope.ADMIN) and not is_customer,
            "link": None,
            **more,
        },
    )


async def _rows(visit: Visit, subject: tuple[str, str], org: str, month: datetime) -> Sequence[Row]:
    subject_type, subject_id = subject
    return [
        Row(
            used.metric_key,
            used.metric.name if used.metric else used.metric_key,
            used.metric.unit if used.metric else "not defined",
            shown_precision(used.metric) if used.metric else 0,
            used.month_total,
            used.month_records,
            used.last_used,
            url(
                "/usage",
                metric=used.metric_key,
                period="daily",
                org=org_text(org),
                subject_type=subject_type,
                subject_id=subject_id,
            ),
        )
        for used in await visit.run(visit.may.usage.metrics_of, subject, org_id=org, month=month)
    ]


async def _alerts(visit: Visit, subject: tuple[str, str], org: str) -> Sequence[UsageAlert]:
    if visit.principal.subject is not None:
        return ()
    return (await visit.run(visit.may.alerts.list, subject=subject, org_id=org, limit=_ALERTS)).rows


async def link(visit: Visit) -> Response:
    """A token of the subject, and a link that signs in with it."""
    subject = fields.subject_of(visit.form)
    org = fields.org_of(visit.form) or ""
    if subject is None:
        raise InvalidUsage("give the type and the id of a subject")
    days = min(max(fields.number(visit.form, "days", 7), 1), 366)
    created = await visit.run(
        visit.may.tokens.create,
        name=f"page of {subject[0]}/{subject[1]}"[:200],
        scopes=[Scope.READ],
        org_id=org,
        subject=subject,
        expires_in=timedelta(days=days),
    )
    text = link_of(visit.desk.signer, created.token.id, visit.desk.time() + 60 * LINK_MINUTES)
    address = f"{visit.request.base_url}sign-in/link?{urlencode({'link': text})}"
    return await one_subject(
        visit, subject, org, link=address, token_text=created.text, link_until=created.token.expires_at
    )


ROUTES = (
    page("/subjects", subjects),
    page("/subjects/one", one),
    page("/subjects/link", link, method="POST"),
)
