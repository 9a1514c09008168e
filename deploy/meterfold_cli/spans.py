"""Spans of time as people write them: a month, the last seven days, or from and to. Pure.

A day or a month without a UTC offset is one of the given time zone; an end is not part of its span.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType
from typing import Final

from meterfold_cli.exits import WrongInput
from meterfold_schemas.periods import from_micros
from meterfold_service.usage.calendar import EARLIEST, LATEST, Calendar

__all__ = ["SPAN_HELP", "moment", "span"]

SPAN_HELP: Final = "2026-10, 2026-10-05, 2026-10-05T12:30, or with an offset such as Z or +02:00"
_MONTH: Final = re.compile(r"(\d{4})-(\d{2})")
_SINCE: Final = re.compile(r"(\d{1,6})(m|h|d|w)")
_UNITS: Final = MappingProxyType({"m": "minutes", "h": "hours", "d": "days", "w": "weeks"})


def span(
    now: datetime,
    tz: str | None = None,
    *,
    month: str | None = None,
    since: str | None = None,
    start: str | None = None,
    end: str | None = None,
) -> tuple[datetime, datetime]:
    """The span that the options --month, --since, --from and --to name; this month up to now where none is given.

    Raises WrongInput, or InvalidUsage for an unknown time zone.
    """
    given = [name for name, value in (("--month", month), ("--since", since), ("--from", start)) if value is not None]
    if len(given) > 1 or (end is not None and given not in ([], ["--from"])):
        raise WrongInput(f"give one of --month, --since, or --from with --to; not {' and '.join([*given, *_to(end)])}")
    calendar = Calendar.of("monthly", tz)
    if month is not None:
        first = _month(month)
        if first is None:
            raise WrongInput(f"--month {month!r} must be a month such as 2026-10")
        return from_micros(calendar.day_start(first)), from_micros(calendar.day_start(_next_month(first)))
    if since is not None:
        duration = _duration(since)
        if duration > now - EARLIEST:
            raise WrongInput(f"--since {since} is before the year {EARLIEST.year}")
        return now - duration, now
    if start is not None:
        begin = moment("--from", start, calendar)
        until = now if end is None else moment("--to", end, calendar)
        if until < begin:
            raise WrongInput(f"--to {end or now.isoformat()} is before --from {start}")
        return begin, until
    if end is not None:
        raise WrongInput("--to needs --from")
    return from_micros(calendar.day_start(now.astimezone(calendar.zone).date().replace(day=1))), now


def moment(option: str, text: str, calendar: Calendar) -> datetime:
    """The instant that a text names: the beginning of a month or of a day, or a time. Raises WrongInput."""
    day = _month(text) or _day(text)
    try:
        found = datetime.fromisoformat(text) if day is None else datetime(day.year, day.month, day.day)  # noqa: DTZ001
    except ValueError:
        raise WrongInput(f"{option} {text!r} must be a time: {SPAN_HELP}") from None
    if not EARLIEST.year <= found.year < LATEST.year:
        raise WrongInput(f"{option} {text} is not in the years {EARLIEST.year} to {LATEST.year - 1}")
    if day is not None:
        return from_micros(calendar.day_start(day))
    if found.tzinfo is not None:
        return found.astimezone(UTC)
    local = found.replace(tzinfo=calendar.zone)
    there = local.astimezone(UTC)
    if there.astimezone(calendar.zone).replace(tzinfo=None) != found:
        raise WrongInput(f"{option} {text} does not exist in the time zone, since clocks skip it")
    if local.replace(fold=1).astimezone(UTC) != there:
        raise WrongInput(f"{option} {text} occurs twice in the time zone. Add an offset such as +02:00")
    return there


def _to(end: str | None) -> list[str]:
    return [] if end is None else ["--to"]


def _duration(text: str) -> timedelta:
    match = _SINCE.fullmatch(text)
    if match is None:
        raise WrongInput(f"--since {text!r} must be a number with m, h, d or w, such as 90m, 12h, 7d or 4w")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _month(text: str) -> date | None:
    match = _MONTH.fullmatch(text)
    if match is None or not 1 <= int(match[2]) <= 12 or not EARLIEST.year <= int(match[1]) < LATEST.year:
        return None
    return date(int(match[1]), int(match[2]), 1)


def _next_month(first: date) -> date:
    return (first + timedelta(days=31)).replace(day=1)


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
