"""Overview: what is counted at present, that nothing is missing, and what needs a person."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from starlette.responses import Response, StreamingResponse

from meterfold_schemas.errors import MeterfoldError
from meterfold_schemas.plurals import noun, plural
from meterfold_service.access.errors import Forbidden
from meterfold_service.access.principal import Scope
from meterfold_service.console.live import Sample
from meterfold_service.console.pages.subjects import one_subject
from meterfold_service.console.rendering import ago, quantity, span, url
from meterfold_service.console.visit import Visit, page
from meterfold_service.status import undefined
from meterfold_service.status.report import StatusReport, rejection
from meterfold_service.usage.subjects import busy_since
from meterfold_sink.rejections import RecentRejections

__all__ = ["ROUTES"]

_SHOWN: Final = 120
_BUSIEST: Final = 10
_CHECKED_SECONDS: Final = 4.0


@dataclass(frozen=True, slots=True)
class Item:
    """What needs a person. `tone`: bad or warn."""

    tone: str
    text: str
    link: str = ""
    label: str = ""


async def overview(visit: Visit) -> Response:
    """For a person of one organization: its usage; for a customer: their page."""
    who = visit.principal
    if who.subject is not None:
        return await one_subject(visit, who.subject, who.org_id or "")
    if who.org_id is not None:
        return visit.go("/usage")
    totals = await visit.run(visit.may.status.totals)
    recent = visit.desk.feed.recent[-_SHOWN:]
    rate = recent[-1].rate if recent else None
    return visit.render("overview.html", totals=totals, rate=_rate(rate), samples=[_row(one) for one in recent])


async def busiest(visit: Visit) -> Response:
    """A part of the page: it reads the windows of two hours."""
    found = await visit.run(visit.may.usage.busiest, limit=_BUSIEST)
    return visit.render("_busiest.html", rows=found, since=busy_since(visit.desk.now()))


async def attention(visit: Visit) -> Response:
    """A part of the page: asks both servers, which may take a moment."""
    visit.may.status.need()
    report = await visit.desk.watch.report()
    items = [*_problems(report, manages=visit.principal.may(Scope.MANAGE)), *await _of_service(visit)]
    waits = [one.waiting_seconds for one in report.partitions if one.waiting_seconds is not None]
    return visit.render(
        "_attention.html",
        items=items,
        lag=sum(one.lag or 0 for one in report.partitions),
        waiting=span(max(waits)) if waits else "nothing waits",
        fold=_workers(report.kafka.fold_group),
        checker=_workers(report.kafka.checker_group),
    )


async def live(visit: Visit) -> Response:
    """Server-sent events: the totals, every second. Ends with the session."""
    visit.may.status.need()
    return StreamingResponse(_events(visit), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _events(visit: Visit) -> AsyncIterator[str]:
    checked = visit.desk.time()
    async for sample in visit.desk.feed.samples():
        if visit.desk.time() - checked > _CHECKED_SECONDS:
            checked = visit.desk.time()
            if not await _is_signed_in(visit):
                yield "event: over\ndata: {}\n\n"
                return
        yield f"event: totals\ndata: {json.dumps(_figures(sample, visit.desk.now()))}\n\n"


async def _is_signed_in(visit: Visit) -> bool:
    try:
        return await visit.desk.principal_of(visit.session) is not None
    except MeterfoldError:
        return True  # ClickHouse is away, and a sign-out needs it


def _figures(sample: Sample, now: datetime) -> dict[str, Any]:
    if sample.totals is None:
        return {"trouble": sample.trouble}
    totals = sample.totals
    texts = {
        "rate": _rate(sample.rate),
        "read": f"{totals.read:,}",
        "counted": f"{totals.counted:,}",
        "duplicates": f"{totals.duplicates:,}",
        "rejected": f"{totals.rejected:,}",
        "empty": f"{totals.empty:,}",
        "fresh": ago(totals.last_stamp, now),
    }
    return {"texts": texts, "point": _row(sample)}


def _row(sample: Sample) -> dict[str, Any]:
    at = datetime.fromtimestamp(sample.at, UTC)
    rate = "" if sample.rate is None else round(sample.rate, 1)
    return {"x": round(sample.at, 1), "at": round(sample.at, 1), "y": rate, "rate": rate, "clock": f"{at:%H:%M:%S}",
            "text": _rate(sample.rate)}  # fmt: skip


def _rate(rate: float | None) -> str:
    return quantity(None) if rate is None else f"{rate:,.0f}"


def _workers(group: Any) -> str:
    if group is None or group.is_empty:
        return "none"
    return "running" if group.members is None else f"{group.members:,}"


def _problems(report: StatusReport, *, manages: bool) -> list[Item]:
    """What the status says, but for endpoints, which are named one by one."""
    view = report.clickhouse
    # The last one of each reason is a page away: here it is enough that there are some.
    rejections = {rejection(one, view.rejected_within, report.at): one for one in view.rejections}
    found = [_rejected(rejections[text]) if text in rejections else Item("bad", text) for text in report.problems]
    for one in report.clickhouse.undefined:
        text = undefined.sentence(one)
        found.append(
            Item("warn", text, url("/metrics/new", key=one.key), "Define it") if manages else Item("warn", text)
        )
    return found


def _rejected(one: RecentRejections) -> Item:
    whose = f"of organization {one.org_id}" if one.org_id else "without an organization"
    text = f"{plural(one.count, 'message')} {whose} {noun(one.count, 'was', 'were')} rejected as {one.reason} lately."
    return Item("bad", text, url("/rejected", reason=one.reason), "Look at them")


async def _of_service(visit: Visit) -> list[Item]:
    """Alerts that nobody has acknowledged, and endpoints that do not answer."""
    try:
        alerts = await visit.run(visit.may.alerts.list, status="pending", limit=1)
        endpoints = await visit.run(visit.may.notifications.endpoints)
    except Forbidden:
        return []
    found = []
    if alerts.total:
        text = f"{alerts.total:,} {'alert has' if alerts.total == 1 else 'alerts have'} not been acknowledged."
        found.append(Item("warn", text, url("/alerts", status="pending"), "Show"))
    for one in endpoints:
        if one.state != "active":
            found.append(
                Item("bad", f"The endpoint {one.endpoint} is {one.state}: {one.reason}.", "/deliveries", "Show")
            )
    return found


ROUTES = (
    page("/", overview),
    page("/overview/attention", attention),
    page("/overview/busiest", busiest),
    page("/live", live),
)
