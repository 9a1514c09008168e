"""The rows of the usage page: what a period is called, where a click leads, and how it was before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from decimal import Decimal

from meterfold_schemas.definitions import SUBJECT
from meterfold_schemas.periods import from_micros, micros
from meterfold_service.console.fields import conditions, conditions_text
from meterfold_service.console.rendering import NONE, org_text, url
from meterfold_service.console.snippets import ADDING, Asked
from meterfold_service.usage.calendar import LIFETIME, Calendar
from meterfold_service.usage.results import UsageSummary

__all__ = ["Columns", "Row", "Sum", "are_all", "before", "columns_of", "period_name", "rows_of", "sum_of"]

_MOST_PERIODS = 10_000
_LONGEST_MONTHS = 40 * 24 * 3600 * 1_000_000
_FORMATS: Mapping[str, str] = {"hourly": "%Y-%m-%d %H:%M", "monthly": "%Y-%m", "yearly": "%Y", "daily": "%Y-%m-%d %a"}


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns say whose a row is."""

    org: bool
    subject: bool
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """`x`, `y` and `series` are what the chart draws: seconds since 1970, the total, and whose it is."""

    of: UsageSummary
    period: str
    x: int
    y: str
    series: str
    before: Decimal | None
    change: str
    link: str
    link_text: str


@dataclass(frozen=True, slots=True)
class Sum:
    """Of all rows of a table."""

    quantity: Decimal
    events: int


def are_all(asked: Asked, rows: Sequence[UsageSummary], total: int) -> bool:
    """Whether no row is left out: neither behind these, nor because others of its period are larger."""
    largest = max(Counter((row.period_start, row.org_id) for row in rows).values(), default=0)
    return len(rows) == total and (asked.top is None or largest < asked.top)


def sum_of(rows: Sequence[UsageSummary], kind: str) -> Sum | None:
    """None where totals do not add up to one: of a maximum, a minimum, or a last value."""
    totals = [row.total_quantity for row in rows if row.total_quantity is not None]
    if kind not in ADDING or len(totals) < len(rows) or len(rows) < 2:  # one row is its own sum
        return None
    return Sum(sum(totals, Decimal(0)), sum(row.record_count for row in rows))


def period_name(period: str, start: datetime, zone: tzinfo) -> str:
    """As people call it."""
    if period == LIFETIME:
        return "always"
    return start.astimezone(zone).strftime(_FORMATS.get(period, "from %Y-%m-%d"))


def before(calendar: Calendar, start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """The same number of periods, before the one that holds `start`."""
    windows = calendar.windows(micros(start), micros(end), _MOST_PERIODS)
    first, last = windows[0], windows[-1]
    assert last.end is not None
    guess = first.start - (last.end - first.start) - _LONGEST_MONTHS
    earlier = calendar.windows(guess, first.start, _MOST_PERIODS)[-len(windows) :]
    return from_micros(earlier[0].start), from_micros(first.start)


def columns_of(asked: Asked, rows: Sequence[UsageSummary]) -> Columns:
    fields = tuple(name for name in asked.group if name != SUBJECT)
    return Columns(
        org=asked.org_id is None and any(row.org_id for row in rows),
        subject=SUBJECT in asked.group,
        fields=fields,
    )


def rows_of(
    asked: Asked, zone: tzinfo, rows: Sequence[UsageSummary], earlier: Sequence[UsageSummary], calendar: Calendar
) -> list[Row]:
    """`earlier`: the same of the time before, where that was asked for."""
    then = _by_place(calendar, earlier, *(before(calendar, asked.start, asked.end) if asked.compare else (None, None)))
    place = _places(calendar, asked.start, asked.end) if asked.compare else {}
    found = []
    for row in rows:
        was = then.get((place.get(micros(row.period_start), -1), _whose(row)))
        link, text = _closer(asked, row)
        found.append(
            Row(
                of=row,
                period=period_name(asked.period, row.period_start, zone),
                x=int(row.period_start.timestamp()),
                y="" if row.total_quantity is None else f"{row.total_quantity:f}",
                series=_series(row),
                before=was,
                change=_change(row.total_quantity, was),
                link=link,
                link_text=text,
            )
        )
    return found


def _places(calendar: Calendar, start: datetime, end: datetime) -> dict[int, int]:
    windows = calendar.windows(micros(start), micros(end), _MOST_PERIODS)
    return {window.start: number for number, window in enumerate(windows)}


def _by_place(
    calendar: Calendar, rows: Sequence[UsageSummary], start: datetime | None, end: datetime | None
) -> dict[tuple[int, tuple[str, ...]], Decimal | None]:
    if start is None or end is None:
        return {}
    place = _places(calendar, start, end)
    return {(place.get(micros(row.period_start), -2), _whose(row)): row.total_quantity for row in rows}


def _whose(row: UsageSummary) -> tuple[str, ...]:
    return (row.org_id, row.subject_type or "", row.subject_id or "", *(f"{row.group[name]}" for name in row.group))


def _series(row: UsageSummary) -> str:
    parts = [
        row.org_id,
        "" if row.subject_type is None else f"{row.subject_type}/{row.subject_id}",
        *(NONE if value is None else value for value in row.group.values()),
    ]
    return " · ".join(part for part in parts if part)


def _change(now: Decimal | None, was: Decimal | None) -> str:
    if now is None or was is None or was == 0:
        return NONE
    return f"{(now - was) / abs(was) * 100:+.1f} %"


def _closer(asked: Asked, row: UsageSummary) -> tuple[str, str]:
    """To the records of a subject, or to the subjects of a period or of a group of metadata."""
    of_group = {**asked.where, **{name: [value] for name, value in row.group.items()}}
    where = conditions_text(of_group)
    if conditions({"where": where}, "where") != of_group:
        return "", ""  # a value with a comma, which an address cannot say
    start = row.period_start.astimezone(UTC).isoformat()
    end = None if row.period_end is None else row.period_end.astimezone(UTC).isoformat()
    if row.subject_type is not None:
        return (
            url(
                "/usage/records",
                metric=asked.metric,
                org=org_text(row.org_id),
                subject_type=row.subject_type,
                subject_id=row.subject_id,
                start=start,
                end=end,
                where=where,
            ),
            "Records",
        )
    link = url(
        "/usage",
        metric=asked.metric,
        period=asked.period,
        anchor=asked.anchor,
        tz=asked.tz,
        org=org_text(row.org_id),
        start=start,
        end=end,
        group=SUBJECT,
        where=where,
    )
    return link, "Subjects"
