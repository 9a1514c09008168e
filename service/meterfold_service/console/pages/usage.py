"""Usage: totals by period, the records behind one, and all of it as a file."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from http import HTTPStatus
from typing import Any, Final
from zoneinfo import available_timezones

from starlette.responses import Response

from meterfold_schemas.definitions import MetricDefinition
from meterfold_schemas.errors import InvalidUsage, MeterfoldError
from meterfold_schemas.periods import from_micros, micros
from meterfold_schemas.zones import zone_of
from meterfold_service.console import fields
from meterfold_service.console.rendering import shown_precision, url
from meterfold_service.console.snippets import Asked, snippets
from meterfold_service.console.usage_table import are_all, before, columns_of, rows_of, sum_of
from meterfold_service.console.visit import Visit, page
from meterfold_service.exports.results import Format
from meterfold_service.exports.streaming import RowStream
from meterfold_service.http.problems import status_of
from meterfold_service.http.streams import Chunks
from meterfold_service.usage.calendar import LIFETIME, PERIODS, Calendar
from meterfold_service.usage.operations import MAX_PERIODS

__all__ = ["ROUTES"]

_ROWS: Final = 500
_RECORDS: Final = 100
_MOST_SERIES: Final = 8
"""In a chart: as many colours as the style sheet has for them."""
_SHOWN: Final[Mapping[str, timedelta]] = {
    "hourly": timedelta(hours=47),
    "daily": timedelta(days=29),
    "weekly": timedelta(days=80),
    "monthly": timedelta(days=330),
    "yearly": timedelta(days=1500),
    "billing": timedelta(days=330),
    "lifetime": timedelta(days=1),
}
_DOWNLOADS: Final = (Format.CSV, Format.JSONL, Format.PARQUET)
_NAMES: Final = (
    "metric", "period", "start", "end", "group", "where", "subject_type", "subject_id", "org", "tz", "anchor",
    "compare",
)  # fmt: skip
RECORD: Final = (
    "python -c \"from meterfold import Meter\nwith Meter() as meter: meter.record({metric!r}, ('user', 'ada'), 3)\""
)


async def usage(visit: Visit) -> Response:
    metrics = await _metrics(visit)
    query = {name: visit.query.get(name, "") for name in _NAMES}
    if not metrics:
        return visit.render("usage.html", metrics=(), query=query, rows=())
    zone: tzinfo = zone_of(None)
    problem: MeterfoldError | None = None
    asked = Asked(metrics[0].key, "daily", visit.desk.now(), visit.desk.now())
    found: dict[str, Any] = {"rows": [], "total": 0, "has": None, "sum": None, "snippets": ()}
    try:
        zone = zone_of(query["tz"] or None)
        asked = asked_for(query, metrics, visit.desk.now(), zone)
        kind = next((one.aggregation_type for one in metrics if one.key == asked.metric), "sum")
        found = await _answer(visit, asked, zone, kind)
    except MeterfoldError as error:
        if status_of(error) is HTTPStatus.SERVICE_UNAVAILABLE:
            raise
        problem = error
    metric = next((one for one in metrics if one.key == asked.metric), metrics[0])
    return visit.render(
        "usage.html",
        metrics=_choices(metrics),
        metric_name=metric.name,
        unit=metric.unit,
        precision=shown_precision(metric),
        most_series=_MOST_SERIES,
        dimensions=metric.dimensions or (),
        periods=PERIODS,
        zones=sorted(available_timezones()),
        zone=query["tz"] or "UTC",
        query=query,
        asked=asked,
        start=fields.shown_moment(asked.start, zone, with_time=asked.with_time),
        end=fields.shown_moment(asked.end, zone, with_time=asked.with_time) if query["end"] else "",
        more=any(query[name] for name in ("where", "subject_type", "subject_id", "org", "tz", "anchor")),
        problem=problem,
        record=RECORD.format(metric=metric.key),
        **found,
    )


async def _metrics(visit: Visit) -> Sequence[MetricDefinition]:
    """Those that a person may choose; for a customer those that the subject has used."""
    metrics = await visit.run(visit.may.metrics.visible)
    subject = visit.principal.subject
    if subject is None:
        return metrics
    used = {one.metric_key for one in await visit.run(visit.may.usage.metrics_of, subject)}
    return [one for one in metrics if one.key in used]


def asked_for(query: Mapping[str, str], metrics: Sequence[MetricDefinition], now: datetime, zone: tzinfo) -> Asked:
    """Raises InvalidUsage."""
    period = fields.text(query, "period") or "daily"
    end = fields.moment(query, "end", zone) or now
    start = fields.moment(query, "start", zone) or end - _SHOWN.get(period, timedelta(days=29))
    if end <= start:
        raise InvalidUsage("the end must be after the start")
    metric = fields.text(query, "metric") or next((one.key for one in metrics), None)
    if metric is None:
        raise InvalidUsage("no metric was given, and none is defined or used yet: give one")
    group = tuple(name.strip() for name in query["group"].split(",") if name.strip())
    return Asked(
        metric=metric,
        period=period,
        start=start,
        end=end,
        tz=fields.text(query, "tz"),
        anchor=fields.number(query, "anchor", 1) if period == "billing" else None,
        org_id=fields.org_of(query),
        subject=fields.subject_of(query),
        group=group,
        where=fields.conditions(query, "where"),
        compare=bool(query["compare"]) and period != "lifetime",
    )


def _selection(asked: Asked) -> dict[str, Any]:
    """What get_summary is asked for, but for the time and how many."""
    return {
        "period": asked.period,
        "tz": asked.tz,
        "anchor": asked.anchor,
        "org_id": asked.org_id,
        "every_org": asked.org_id is None,
        "subject": asked.subject,
        "group_by": asked.group,
        "filter": asked.where or None,
    }


async def _answer(visit: Visit, asked: Asked, zone: tzinfo, kind: str) -> dict[str, Any]:
    async def read(start: datetime, end: datetime) -> Any:
        summary = visit.may.usage.get_summary
        return await visit.run(
            summary, asked.metric, start=start, end=end, top=asked.top, limit=_ROWS, **_selection(asked)
        )

    calendar = Calendar.of(asked.period, asked.tz, asked.anchor)
    spans = [(asked.start, asked.end)]
    if asked.compare:
        spans.append(before(calendar, asked.start, asked.end))
    found, *others = await asyncio.gather(*(read(*span) for span in spans))
    earlier = others[0].rows if others else ()
    rows = rows_of(asked, zone, found.rows, earlier, calendar)
    return {
        "rows": rows,
        "series": len({row.series for row in rows}),
        "total": found.total,
        "sum": sum_of(found.rows, kind) if are_all(asked, found.rows, found.total) else None,
        "has": columns_of(asked, found.rows),
        "snippets": snippets(replace(asked, start=_first(calendar, asked)), str(visit.request.base_url), kind),
    }


def _first(calendar: Calendar, asked: Asked) -> datetime:
    """The start of the first period that is shown."""
    if asked.period == LIFETIME:
        return asked.start
    return from_micros(calendar.windows(micros(asked.start), micros(asked.end), MAX_PERIODS)[0].start)


async def records(visit: Visit) -> Response:
    """The events of one subject in one window."""
    subject = fields.subject_of(visit.query)
    zone = zone_of(None)
    start, end = fields.moment(visit.query, "start", zone), fields.moment(visit.query, "end", zone)
    metric = fields.text(visit.query, "metric")
    if metric is None or start is None:
        raise InvalidUsage("records need a metric, a subject and a start")
    found = await visit.run(
        visit.may.usage.get,
        metric,
        subject,
        start=start,
        end=end,
        org_id=fields.org_of(visit.query),
        filter=fields.conditions(visit.query, "where") or None,
        limit=_RECORDS,
        cursor=fields.text(visit.query, "cursor"),
    )
    names = ("metric", "org", "subject_type", "subject_id", "start", "end", "where")
    query = {name: visit.query.get(name, "") for name in names}
    return visit.render(
        "records.html",
        found=found,
        metric=metric,
        subject=subject or visit.principal.subject,
        start=start,
        end=end or visit.desk.now(),
        next=url("/usage/records", **query, cursor=found.cursor),
        back=_came_from(visit)
        or url("/usage", metric=metric, org=query["org"], subject_type=query["subject_type"],
               subject_id=query["subject_id"], where=query["where"]),
    )  # fmt: skip


def _came_from(visit: Visit) -> str | None:
    """The usage page that had the link, with everything that it was asked for."""
    usage_page = f"{visit.request.base_url}usage?"
    came_from = visit.request.headers.get("referer", "")
    return f"/usage?{came_from.removeprefix(usage_page)}" if came_from.startswith(usage_page) else None


async def download(visit: Visit) -> Response:
    """The table of the page as a file; or, in constant memory, the totals of each subject or the records."""
    metrics = await _metrics(visit)
    query = {name: visit.query.get(name, "") for name in _NAMES}
    what, kind = visit.query.get("what", "table"), visit.query.get("format", "csv")
    if kind not in _DOWNLOADS or what not in ("table", "summaries", "records"):
        raise InvalidUsage(
            f"a download is of table, summaries or records, as {', '.join(_DOWNLOADS[:-1])} or {_DOWNLOADS[-1]}"
        )
    zone = zone_of(query["tz"] or None)
    asked = asked_for(query, metrics, visit.desk.now(), zone)

    def opened() -> RowStream:
        if what == "table":
            times = {"start": asked.start, "end": asked.end}
            return visit.may.usage.stream_summary(asked.metric, **times, **_selection(asked))
        period = {"period": asked.period if asked.period != "billing" else "daily"} if what == "summaries" else {}
        return visit.may.usage.stream(
            what,
            metric_key=asked.metric,
            org_id=asked.org_id,
            subject=asked.subject,
            start=asked.start,
            end=asked.end,
            **period,
        )

    return await Chunks.of(
        visit.desk.service,
        opened,
        Format(kind),
        # Whoever downloads a CSV file opens it in a spreadsheet.
        safe_for_spreadsheets=kind == Format.CSV,
        name="usage" if what == "table" else what,
    )


def _choices(metrics: Sequence[MetricDefinition]) -> list[tuple[str, str]]:
    """One for each key: organizations may have definitions of one key."""
    return list({one.key: (one.key, f"{one.name} ({one.key})") for one in metrics}.values())


ROUTES = (
    page("/usage", usage),
    page("/usage/records", records),
    page("/usage/download", download),
)
